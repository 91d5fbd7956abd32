//! A model held against activations that somebody recorded elsewhere.

use std::path::Path;

use anyhow::Context;
use patchbay_server::wire::safetensors::read;
use serde::Serialize;
use serde_json::{Value, json};

/// The name of the token ids in the file.
const IDS: &str = "input_ids";

/// What another program computed.
pub(crate) struct Reference {
    /// Token ids, rows of one length.
    ids: Vec<Vec<i64>>,
    /// Sites and their values.
    sites: Vec<(String, Values)>,
}

/// A tensor's shape and elements.
struct Values {
    dims: Vec<usize>,
    elements: Vec<f32>,
}

/// How far a site is from the recorded one.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    site: String,
    /// Largest difference, as a share of the largest recorded value; none where infinite values or shapes differ.
    difference: Option<f32>,
    /// Whether it is within the tolerance.
    pub(crate) passed: bool,
    detail: String,
}

impl Reference {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("{file} cannot be read"))?;
        let tensors = read(&bytes).map_err(|failure| anyhow::anyhow!("{file}: {failure}"))?;
        let mut reference = Self { ids: Vec::new(), sites: Vec::new() };
        for (name, _, tensor) in tensors {
            if name == IDS {
                let ids = tensor.to_dtype(candle_core::DType::I64)?.to_vec2();
                reference.ids = ids.with_context(|| format!("{file}: `{IDS}` must have two axes: rows and tokens"))?;
            } else {
                let elements = tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1()?;
                reference.sites.push((name, Values { dims: tensor.dims().to_vec(), elements }));
            }
        }
        anyhow::ensure!(
            !reference.ids.is_empty(),
            "{file} has no `{IDS}`: the token ids that the values were computed of"
        );
        anyhow::ensure!(!reference.sites.is_empty(), "{file} holds no value of a site, such as `layers.0.output`");
        Ok(reference)
    }

    /// A trace that computes the same.
    pub(crate) fn request(&self, model: &str) -> Value {
        let save = |(site, _): &(String, Values)| json!({"op": "save", "value": site, "as": site});
        json!({"model": model, "input": self.ids, "graph": self.sites.iter().map(save).collect::<Vec<_>>()})
    }

    /// Holds the answer against what was recorded.
    pub(crate) fn compare(&self, answer: &[u8], tolerance: f32) -> anyhow::Result<Vec<Compared>> {
        let found = read(answer)?;
        let compare = |(site, expected): &(String, Values)| {
            let (_, _, tensor) = found.iter().find(|(name, _, _)| name == site).context("the answer lacks a site")?;
            let elements = tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1()?;
            let found = Values { dims: tensor.dims().to_vec(), elements };
            Ok(expected.hold(site, &found, tolerance))
        };
        self.sites.iter().map(compare).collect()
    }
}

impl Values {
    fn hold(&self, site: &str, found: &Self, tolerance: f32) -> Compared {
        let refuse = |detail| Compared { site: site.to_owned(), difference: None, passed: false, detail };
        if self.dims != found.dims {
            return refuse(format!("shape {:?}, recorded {:?}", found.dims, self.dims));
        }
        let pairs = || self.elements.iter().zip(&found.elements);
        if let Some(place) = pairs().position(|(a, b)| a.is_finite() != b.is_finite() || !a.is_finite() && a != b) {
            return refuse(format!("{} at {place}, recorded {}", found.elements[place], self.elements[place]));
        }
        let finite = || pairs().filter(|(a, _)| a.is_finite());
        let largest = finite().fold(0f32, |most, (a, _)| most.max(a.abs()));
        let off = finite().fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        let difference = if off == 0.0 { 0.0 } else { off / largest.max(f32::MIN_POSITIVE) };
        let detail = format!("{difference:.1e} of the largest value, {largest}");
        Compared { site: site.to_owned(), difference: Some(difference), passed: difference <= tolerance, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(elements: &[f32]) -> Values {
        Values { dims: vec![elements.len()], elements: elements.to_vec() }
    }

    #[test]
    fn differences_are_shares_of_the_largest_value() {
        let recorded = values(&[1.0, -10.0, f32::NEG_INFINITY]);
        let near = recorded.hold("x", &values(&[1.01, -10.0, f32::NEG_INFINITY]), 2e-3);
        assert!(near.passed && (near.difference.unwrap() - 1e-3).abs() < 1e-5, "{near:?}");
        assert!(!recorded.hold("x", &values(&[1.1, -10.0, f32::NEG_INFINITY]), 2e-3).passed);
        for other in [&[1.0, -10.0, 3.0][..], &[1.0, f32::NAN, f32::NEG_INFINITY], &[1.0, -10.0]] {
            assert!(!recorded.hold("x", &values(other), 1.0).passed, "{other:?}");
        }
    }
}
