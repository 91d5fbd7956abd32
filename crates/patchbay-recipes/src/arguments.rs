//! Fields that several recipes have.

use patchbay_graph::Tree;
use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use patchbay_graph::site::LayerSite;
use serde_json::{Value, json};

use crate::Ask;
use crate::draft::Draft;
use crate::picture::Picture;
use crate::recipes::Logits;

/// Layers by their numbers; all where the field is left out.
pub(crate) fn layers(fields: &mut Fields<'_>, tree: &Tree) -> Result<Vec<usize>> {
    let count = tree.layers.len();
    match fields.get("layers") {
        None => Ok((0..count).collect()),
        Some(Value::Array(items)) if !items.is_empty() => {
            let layer = |(i, item)| layer(item, count).map_err(|problem| problem.under(i).under("layers"));
            items.iter().enumerate().map(layer).collect()
        }
        Some(value) => Err(wrong("layers", "a list of layers", value)),
    }
}

/// One layer; negative ones count from the end.
pub(crate) fn layer(value: &Value, count: usize) -> Result<usize> {
    let unknown = |found: &dyn std::fmt::Display| {
        Problem::new(Code::UnknownSite, format!("there is no layer {found}"))
            .hint(format!("this model has layers 0 to {}", count.saturating_sub(1)))
    };
    let number = value.as_i64().ok_or_else(|| unknown(value))?;
    let layer = if number < 0 { number + count as i64 } else { number };
    usize::try_from(layer).ok().filter(|layer| *layer < count).ok_or_else(|| unknown(&number))
}

/// The names of several layers' site, stacked: `layers.[3, 9].output`.
pub(crate) fn of_layers(layers: &[usize], site: &str) -> String {
    format!("layers.{layers:?}.{site}")
}

/// A site of a block by its name in the field `site`.
pub(crate) fn site<'a>(fields: &mut Fields<'a>, default: &'a str) -> Result<&'a str> {
    let name = fields.text("site")?.unwrap_or(default);
    match LayerSite::from_name(name) {
        Some(_) => Ok(name),
        None => {
            let problem = Problem::new(Code::UnknownSite, format!("a block has no site `{name}`")).under("site");
            Err(problem.suggest(name, LayerSite::ALL.into_iter().map(LayerSite::name)))
        }
    }
}

/// A place on the axis of tokens, as it stands in an index: a number, or a text that is quoted.
pub(crate) fn index(value: Option<&Value>, name: &str, default: i64) -> Result<String> {
    match value {
        None => Ok(default.to_string()),
        Some(Value::String(text)) => Ok(quoted(text)),
        Some(value) => {
            value.as_i64().map(|place| place.to_string()).ok_or_else(|| wrong(name, "a position, or a text", value))
        }
    }
}

/// A text as an index has it.
pub(crate) fn quoted(text: &str) -> String {
    let marked: String =
        text.chars().flat_map(|c| matches!(c, '\'' | '\\').then_some('\\').into_iter().chain([c])).collect();
    format!("'{marked}'")
}

/// How many rows an input has.
pub(crate) fn rows(input: &Value) -> usize {
    match input {
        Value::Array(rows) => rows.len(),
        Value::Object(object) => match object.get("text") {
            Some(Value::Array(texts)) => texts.len(),
            _ => 1,
        },
        _ => 1,
    }
}

/// The input in the field `input`, and how many rows it has.
pub(crate) fn input<'a>(fields: &mut Fields<'a>) -> Result<(&'a Value, usize)> {
    let input = fields.need("input")?;
    Ok((input, rows(input)))
}

/// Id of the only token of a text, or an id.
pub(crate) fn token(value: &Value, ask: &Ask<'_>) -> Result<u32> {
    match value {
        Value::String(text) => match &(ask.encode)(text)?[..] {
            [token] => Ok(*token),
            [] => Err(Problem::new(Code::BadArgument, format!("{text:?} has no token"))),
            tokens => {
                let detail = format!("{text:?} is {} tokens, and one is wanted", tokens.len());
                Err(Problem::new(Code::BadArgument, detail).hint(format!("the first one is {}", tokens[0])))
            }
        },
        value => {
            let vocab = ask.tree.vocab;
            let id = value.as_u64().filter(|id| *id < vocab as u64).map(|id| id as u32);
            id.ok_or_else(|| {
                Problem::new(Code::IndexOutOfRange, format!("there is no token {value}"))
                    .hint(format!("a token is a text, or an id from 0 to {}", vocab.saturating_sub(1)))
            })
        }
    }
}

/// Answers with the likeliest tokens where the field `k` is, else with all probabilities, of logits by a value of the graph.
pub(crate) fn save_probs(draft: &mut Draft, k: Option<usize>, (logits, layers): Logits) -> Result<()> {
    draft.picture(Picture::Tokens(layers));
    match k {
        Some(k) => draft.line("/k", &format!("top_tokens({logits}, k={k}) as top")),
        None => draft.line("", &format!("save softmax({logits}, -1) as probs")),
    }
}

/// A direction of the stream in the field `vector`: an operand, or the difference of the means of two kinds of prompts. It goes by the
/// name `vector` in the graph.
pub(crate) fn vector(draft: &mut Draft, fields: &mut Fields<'_>, ask: &Ask<'_>, default: usize) -> Result<()> {
    let value = fields.need("vector")?;
    let Some(object) =
        value.as_object().filter(|object| object.contains_key("positive") || object.contains_key("negative"))
    else {
        draft.operand("vector", value, "/vector")?;
        return Ok(());
    };
    let below = |problem: Problem| problem.under("vector");
    let mut fields = Fields::new("`vector`", object);
    let [positive, negative] = [fields.need("positive").map_err(below)?, fields.need("negative").map_err(below)?];
    let count = ask.tree.layers.len();
    let at = fields.get("layer").map(|value| layer(value, count)).transpose();
    let at = at.map_err(|problem| below(problem.under("layer")))?.unwrap_or(default);
    let index = index(fields.get("index"), "index", -1).map_err(below)?;
    fields.finish().map_err(below)?;
    draft.input("positive", positive, "/vector/positive");
    draft.input("negative", negative, "/vector/negative");
    let mean = |input: &str| format!("mean({input}/layers.{at}.output[:, {index}], 0)");
    draft.line("/vector", &format!("vector = {} - {}", mean("positive"), mean("negative")))
}

/// A list of numbers of the field, or what stands for it.
pub(crate) fn numbers(value: &Value, name: &str) -> Result<Vec<f64>> {
    let items = value.as_array().filter(|items| !items.is_empty());
    let found = items.and_then(|items| items.iter().map(Value::as_f64).collect());
    found.ok_or_else(|| wrong(name, "a list of numbers", value))
}

/// A text several times, as an input.
pub(crate) fn repeated(rows: impl Iterator<Item = Value>) -> Value {
    json!(rows.collect::<Vec<_>>())
}
