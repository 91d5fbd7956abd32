//! OpenAI's embeddings: what a site holds of each text, pooled over its tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::operand::SiteOperand;
use patchbay_graph::path::Resolved;
use patchbay_graph::problem::{Code, Problem, Result};
use patchbay_graph::{Packing, Tree};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::Failure;
use crate::wire::result::ResultBody;
use crate::wire::trace::TraceResponse;

/// What is read where nothing is said: what the head reads.
const SITE: &str = "ln_final.output";
/// The only result of the trace.
const RESULT: &str = "embedding";

/// A request for embeddings.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// The body of the trace.
    pub(crate) body: Value,
    site: SiteOperand,
    base64: bool,
    dimensions: Option<usize>,
    normalizes: bool,
}

/// What a client is answered with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.01, -0.02, 0.03]}], "model": "smollm2",
    "usage": {"prompt_tokens": 5, "total_tokens": 5}
}))]
pub(crate) struct EmbeddingList {
    object: &'static str,
    data: Vec<EmbeddingItem>,
    model: String,
    usage: EmbeddingUsage,
}

/// The embedding of one text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingItem {
    object: &'static str,
    /// The text's place in the request.
    index: usize,
    embedding: Vector,
}

/// Numbers, or base64 of them as little-endian f32.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

/// What it took.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Embedding {
    /// Reads a body.
    ///
    /// # Errors
    /// A field is unknown or of the wrong kind.
    pub(crate) fn parse(body: &Value) -> Result<Self> {
        let object = body.as_object().ok_or_else(|| Problem::new(Code::Malformed, "the body is a JSON object"))?;
        let mut fields = Fields::new("an embedding", object);
        let mut made = Map::new();
        for name in ["model", "edit_args", "timeout_ms"] {
            if let Some(value) = fields.get(name) {
                made.insert(name.into(), value.clone());
            }
        }
        let input = match fields.need("input")? {
            ids @ Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty() => json!([ids]),
            input => input.clone(),
        };
        let base64 = match fields.get("encoding_format").map(|format| (format, format.as_str())) {
            None | Some((_, Some("float"))) => false,
            Some((_, Some("base64"))) => true,
            Some((format, _)) => return Err(wrong("encoding_format", "\"float\" or \"base64\"", format)),
        };
        let dimensions = fields.count("dimensions")?;
        if dimensions == Some(0) {
            return Err(Problem::new(Code::BadArgument, "`dimensions` is 1 or more").under("dimensions"));
        }
        fields.get("user");
        let empty = Map::new();
        let inside = match fields.get("patchbay") {
            None => &empty,
            Some(inside) => inside.as_object().ok_or_else(|| wrong("patchbay", "an object", inside))?,
        };
        fields.finish()?;
        let below = |problem: Problem| problem.under("patchbay");
        let mut fields = Fields::new("`patchbay`", inside);
        let name = fields.text("site").map_err(below)?.unwrap_or(SITE);
        let pooling = fields.text("pooling").map_err(below)?.unwrap_or("mean");
        let normalizes = fields.flag("normalize").map_err(below)?.unwrap_or(true);
        fields.finish().map_err(below)?;
        let site = SiteOperand::parse(name).map_err(|problem| below(problem.under("site")))?;
        let value = match pooling {
            "mean" => json!({"op": "mean", "args": [name, 1]}),
            "max" => json!({"op": "max", "args": [name, 1]}),
            "first" => json!(format!("{name}[:, 0]")),
            "last" => json!(format!("{name}[:, -1]")),
            other => {
                let problem = Problem::new(Code::BadArgument, format!("there is no pooling {other:?}"));
                let problem = problem.hint("`mean`, `max`, `first` or `last`");
                return Err(below(problem.suggest(other, ["mean", "max", "first", "last"]).under("pooling")));
            }
        };
        made.insert("input".into(), input);
        made.insert("graph".into(), json!([{"op": "save", "value": value, "as": RESULT}]));
        made.insert("output".into(), json!({"encoding": "base64", "dtype": "f32"}));
        Ok(Self { body: made.into(), site, base64, dimensions, normalizes })
    }

    /// Whether the model has such a site, and as many numbers there.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check(&self, tree: &Tree) -> Result<()> {
        let below = |problem: Problem| problem.under("site").under("patchbay");
        let one = match self.site.path.resolve(tree).map_err(below)? {
            Resolved::One(site) => tree.packing(site),
            _ => None,
        };
        let plain = self.site.index.is_none() && self.site.input.is_none();
        let Some(Packing::Channels { width }) = one.filter(|_| plain) else {
            let detail = "an embedding is made of one site with a vector for each token, without an index";
            let problem =
                Problem::new(Code::BadArgument, detail).hint("such as `layers.5.output` or `ln_final.output`");
            return Err(below(problem));
        };
        match self.dimensions {
            Some(wanted) if wanted > width => {
                let detail = format!("`dimensions` is {wanted}, and the site is {width} wide");
                Err(Problem::new(Code::BadArgument, detail).under("dimensions"))
            }
            _ => Ok(()),
        }
    }

    /// The same failure, with its place in the body of this endpoint.
    pub(crate) fn placed(failure: Failure) -> Failure {
        match failure.pointer.as_deref() {
            Some(pointer) if pointer.starts_with("/graph") || pointer.starts_with("/output") => {
                failure.at("/patchbay/site")
            }
            _ => failure,
        }
    }

    /// The answer.
    ///
    /// # Errors
    /// The trace's result cannot be read, which is a fault of the server.
    pub(crate) fn answer(&self, response: &TraceResponse) -> std::result::Result<EmbeddingList, Failure> {
        let result = response.results.0.iter().find(|(name, _)| name == RESULT);
        let Some((_, ResultBody::Tensor(body))) = result else {
            return Err(Failure::internal("an embedding came to nothing"));
        };
        let mut bytes = Vec::with_capacity(body.tensor.byte_len());
        body.tensor.write_to(&mut bytes).map_err(Failure::internal)?;
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
        let width = body.tensor.dims().last().copied().unwrap_or(1).max(1);
        let item = |(index, row): (usize, &[f32])| {
            let embedding = self.vector(&row[..self.dimensions.unwrap_or(width)]);
            EmbeddingItem { object: "embedding", index, embedding }
        };
        let tokens = response.usage.prompt_tokens;
        Ok(EmbeddingList {
            object: "list",
            data: numbers.chunks_exact(width).enumerate().map(item).collect(),
            model: response.model.clone(),
            usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
        })
    }

    fn vector(&self, row: &[f32]) -> Vector {
        let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        // a vector of zeros has no direction
        let scale = if self.normalizes && length > 0.0 { length.recip() } else { 1.0 };
        let scaled = row.iter().map(|x| (f64::from(*x) * scale) as f32);
        match self.base64 {
            false => Vector::Floats(scaled.collect()),
            true => Vector::Base64(STANDARD.encode(scaled.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_pointed_to() {
        for (body, pointer) in [
            (json!({}), ""),
            (json!({"input": "a", "encoding_format": "hex"}), "/encoding_format"),
            (json!({"input": "a", "dimensions": 0}), "/dimensions"),
            (json!({"input": "a", "dimension": 2}), "/dimension"),
            (json!({"input": "a", "patchbay": {"pooling": "median"}}), "/patchbay/pooling"),
            (json!({"input": "a", "patchbay": {"site": "layers..output"}}), "/patchbay/site"),
            (json!({"input": "a", "patchbay": {"where": "x"}}), "/patchbay/where"),
        ] {
            assert_eq!(Embedding::parse(&body).unwrap_err().pointer, pointer, "{body}");
        }
        let ids = Embedding::parse(&json!({"input": [1, 2], "patchbay": {"pooling": "last"}})).unwrap();
        assert_eq!(
            (&ids.body["input"], &ids.body["graph"][0]["value"]),
            (&json!([[1, 2]]), &json!("ln_final.output[:, -1]"))
        );
    }
}
