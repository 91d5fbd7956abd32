//! Patching: which activations of a clean run, put into a corrupt one, bring its answer back.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

use super::lens::fields_of_heads;
use crate::Ask;
use crate::arguments::{layers, of_layers, site};
use crate::draft::Draft;
use crate::metric::Metric;
use crate::picture::Picture;

/// What is patched: a site of some layers, by position or by head.
struct Patched<'a> {
    site: &'a str,
    layers: Vec<usize>,
    by: By,
}

/// The second axis of the grid.
enum By {
    /// These positions.
    Positions(Vec<Value>),
    /// These heads.
    Heads(Vec<usize>),
}

impl<'a> Patched<'a> {
    fn parse(fields: &mut Fields<'a>, ask: &Ask<'_>, clean: &Value) -> Result<Self> {
        let heads = fields.get("heads");
        let site = site(fields, if heads.is_some() { "self_attn.z" } else { "output" })?;
        let layers = layers(fields, ask.tree)?;
        let by = match (fields.get("positions"), heads) {
            (Some(_), Some(_)) => {
                let problem = Problem::new(Code::BadArgument, "a grid has either `positions` or `heads`");
                return Err(problem.under("heads"));
            }
            (None, Some(heads)) => By::Heads(Self::heads(heads, site, ask)?),
            (Some(Value::Array(places)), None)
                if !places.is_empty() && places.iter().all(|place| place.is_i64() || place.is_string()) =>
            {
                By::Positions(places.clone())
            }
            (Some(value), None) => return Err(wrong("positions", "a list of positions", value)),
            (None, None) => {
                let shortest = (ask.rows)(clean).map_err(|problem| problem.below("/clean"))?.iter().map(Vec::len).min();
                By::Positions((0..shortest.unwrap_or(0)).map(Value::from).collect())
            }
        };
        Ok(Self { site, layers, by })
    }

    fn heads(value: &Value, site: &str, ask: &Ask<'_>) -> Result<Vec<usize>> {
        if !fields_of_heads(site) {
            let problem = Problem::new(Code::BadArgument, format!("the site `{site}` has no heads")).under("heads");
            return Err(problem.hint("`self_attn.z` is what heads mix"));
        }
        let count = ask.tree.layers.iter().map(|layer| layer.heads).min().unwrap_or(0);
        match value {
            Value::String(word) if word == "all" => Ok((0..count).collect()),
            Value::Array(heads) if !heads.is_empty() => {
                let head = |head: &Value| head.as_u64().map(|head| head as usize);
                let found: Option<Vec<usize>> = heads.iter().map(head).collect();
                found.ok_or_else(|| wrong("heads", "a list of heads", value))
            }
            value => Err(wrong("heads", "a list of heads, or \"all\"", value)),
        }
    }

    /// How the grid is drawn.
    fn picture(&self) -> Picture {
        let (by, columns) = match &self.by {
            By::Positions(places) => ("position", places.iter().map(Value::to_string).collect()),
            By::Heads(heads) => ("head", heads.iter().map(usize::to_string).collect()),
        };
        Picture::Patching { layers: self.layers.clone(), by, columns }
    }

    /// The index of a cell, with this on the second axis.
    fn index(&self, place: &str) -> String {
        match (&self.by, fields_of_heads(self.site)) {
            (By::Heads(_), _) => format!("[:, {place}]"),
            (By::Positions(_), true) => format!("[:, :, {place}]"),
            (By::Positions(_), false) => format!("[:, {place}]"),
        }
    }
}

/// The runs that both recipes have.
fn runs<'a>(fields: &mut Fields<'a>, draft: &mut Draft) -> Result<&'a Value> {
    let (clean, corrupt) = (fields.need("clean")?, fields.need("corrupt")?);
    draft.input("clean", clean, "/clean");
    draft.input("corrupt", corrupt, "/corrupt");
    Ok(clean)
}

/// `grid` (layers × positions or heads): the metric where a site's clean value is put into the corrupt run, and the metric of the runs as they
/// are, `clean` and `corrupt` (Vig et al. 2020; Heimersheim and Nanda 2024, *How to use and interpret activation patching*).
pub(super) fn patching_sweep(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let clean = runs(fields, draft)?;
    draft.input("base", fields.need("corrupt")?, "/corrupt");
    let patched = Patched::parse(fields, ask, clean)?;
    let metric = Metric::parse(fields.need("metric")?, ask, &["clean"])?;
    draft.picture(patched.picture());
    draft.axis("layer", json!(patched.layers));
    let (name, index) = match &patched.by {
        By::Positions(places) => {
            // a text is quoted as an index has it
            let place = |place: &Value| match place {
                Value::String(text) => json!(crate::arguments::quoted(text)),
                place => place.clone(),
            };
            draft.axis("position", places.iter().map(place).collect());
            ("positions", patched.index("{position}"))
        }
        By::Heads(heads) => {
            draft.axis("head", json!(heads));
            ("heads", patched.index("{head}"))
        }
    };
    let site = format!("layers.{{layer}}.{}{index}", patched.site);
    draft.line(&format!("/{name}"), &format!("corrupt/{site} = clean/{site}"))?;
    for (input, value, result) in
        [("corrupt", "patched", "grid"), ("clean", "clean_metric", "clean"), ("base", "corrupt_metric", "corrupt")]
    {
        metric.add(draft, Some(input), value)?;
        draft.line("/metric", &format!("save {value} as {result}"))?;
    }
    Ok(())
}

/// The same grid from one gradient: the corrupt run's metric, and (clean − corrupt) · ∂metric/∂activation (Nanda 2023, *Attribution patching*).
/// It is a first-order estimate of what `patching-sweep` measures.
pub(super) fn attribution_patching(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let clean = runs(fields, draft)?;
    let patched = Patched::parse(fields, ask, clean)?;
    let metric = Metric::parse(fields.need("metric")?, ask, &["clean"])?;
    draft.picture(patched.picture());
    metric.add(draft, Some("corrupt"), "corrupt_metric")?;
    metric.add(draft, Some("clean"), "clean_metric")?;
    let (index, name) = match &patched.by {
        By::Positions(places) => {
            let place = |place: &Value| match place {
                Value::String(text) => crate::arguments::quoted(text),
                place => place.to_string(),
            };
            let places: Vec<String> = places.iter().map(place).collect();
            (patched.index(&format!("[{}]", places.join(", "))), "/positions")
        }
        By::Heads(heads) => (patched.index(&json!(heads).to_string()), "/heads"),
    };
    let site = of_layers(&patched.layers, &format!("{}{index}", patched.site));
    // [layers, rows, (heads,) positions, width]: what is not an axis of the grid is added up
    let over = match (&patched.by, fields_of_heads(patched.site)) {
        (By::Positions(_), false) => "[1, 3]",
        (By::Positions(_), true) => "[1, 2, 4]",
        (By::Heads(_), _) => "[1, 3, 4]",
    };
    draft.lines(
        name,
        [
            &*format!("slope = grad(corrupt_metric, corrupt/{site})"),
            &format!("estimate = sum(slope * (clean/{site} - corrupt/{site}), {over})"),
            "save corrupt_metric + estimate as grid",
            "save clean_metric as clean",
            "save corrupt_metric as corrupt",
        ],
    )
}
