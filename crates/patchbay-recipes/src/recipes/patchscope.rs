//! Patchscope: what the model says of a hidden state that is put into another prompt.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

use super::Logits;
use crate::Ask;
use crate::arguments::{input, layers, repeated, save_probs};
use crate::draft::Draft;

/// A prompt, and the token that is replaced.
struct Target {
    prompt: String,
    index: i64,
}

/// `probs` (N L V): the source's last-token hidden state of layer l put in at layer l of the target prompt (Ghandeharioun et al. 2024,
/// *Patchscopes: a unifying framework for inspecting hidden representations of language models*). `latents` (L N D) may stand for the
/// sources' states.
pub(super) fn patchscope(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let logits = patchscope_of(fields, ask, draft)?;
    save_probs(draft, fields.count("k")?, logits)
}

/// What of a generation's settings may be given here.
const SETTINGS: [&str; 14] = [
    "max_new_tokens",
    "min_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "ignore_eos",
    "constraint",
];

/// `text`, `tokens` and `ids` (N L): what the target prompt goes on with, its token in the prompt's pass being the source's last-token hidden
/// state of layer l put in at layer l. One generation, of a row for each prompt and layer.
pub(super) fn patchscope_generate(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (prompts, layers) = patched(fields, ask, draft, true)?;
    let settings = SETTINGS.into_iter().filter_map(|name| Some((name.to_owned(), fields.get(name)?.clone())));
    draft.generates("target", [prompts, layers.len()], settings.collect());
    Ok(())
}

/// The logits `[N, L, V]`.
pub(super) fn patchscope_of(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<Logits> {
    let (prompts, layers) = patched(fields, ask, draft, false)?;
    Ok((format!("reshape(target/logits[:, -1], [{prompts}, {}, -1])", layers.len()), Some(layers)))
}

/// Puts hidden states into the target prompt, which stands there once for each prompt and layer; what these rows have in common is computed
/// once. Gives the number of prompts, and the layers.
fn patched(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft, generates: bool) -> Result<(usize, Vec<usize>)> {
    let layers = layers(fields, ask.tree)?;
    let (prompts, latents) = match fields.get("latents") {
        Some(latents) => {
            if fields.get("input").is_some() {
                let problem = Problem::new(Code::BadArgument, "a patchscope has either `input` or `latents`");
                return Err(problem.under("latents"));
            }
            draft.operand("latents", latents, "/latents")?;
            (count(latents, ask, layers.len())?, true)
        }
        None => {
            let (input, prompts) = input(fields)?;
            draft.input("source", input, "/input");
            (prompts, false)
        }
    };
    let targets = targets(fields.get("target"), prompts)?;
    let target = |prompt: usize| &targets[prompt.min(targets.len() - 1)];
    let texts = (0..prompts).flat_map(|prompt| layers.iter().map(move |_| json!(target(prompt).prompt)));
    draft.made_input("target", repeated(texts), "/target");
    let steps = if generates { " steps=\"prompt\"" } else { "" };
    for (place, layer) in layers.iter().enumerate() {
        let rows: Vec<usize> = (0..prompts).map(|prompt| prompt * layers.len() + place).collect();
        let tokens = match &targets[..] {
            [target] => target.index.to_string(),
            targets => json!(targets.iter().map(|target| target.index).collect::<Vec<_>>()).to_string(),
        };
        let value = match latents {
            true => format!("$latents[{place}]"),
            false => format!("source/layers.{layer}.output[:, -1]"),
        };
        let target = format!("target/layers.{layer}.output[{rows:?}, {tokens}]");
        draft.line("/target", &format!("{target} = {value}{steps}"))?;
    }
    Ok((prompts, layers))
}

/// How many sources' states there are in a tensor `[L, N, D]`.
fn count(latents: &Value, ask: &Ask<'_>, layers: usize) -> Result<usize> {
    let dims = match latents {
        Value::String(name) => {
            let (name, key) = name
                .trim_start_matches('@')
                .split_once('.')
                .map_or((name.trim_start_matches('@'), None), |(name, key)| (name, Some(key)));
            ask.store.describe(name, key).map_err(|problem| problem.under("latents"))?.1
        }
        Value::Object(object) => object.get("shape").and_then(Value::as_array).map_or_else(
            || nested(object.get("data").unwrap_or(&Value::Null)),
            |shape| shape.iter().filter_map(Value::as_u64).map(|size| size as usize).collect(),
        ),
        value => nested(value),
    };
    match dims[..] {
        [found, prompts, _] if found == layers && prompts > 0 => Ok(prompts),
        _ => {
            let detail = format!("`latents` are of the shape [{layers}, prompts, {}], found {dims:?}", ask.tree.hidden);
            Err(Problem::new(Code::ShapeMismatch, detail).hint("the recipe `activations` makes them").under("latents"))
        }
    }
}

/// Sizes of a nested list.
fn nested(value: &Value) -> Vec<usize> {
    match value {
        Value::Array(items) => {
            let inner = items.first().map(nested).unwrap_or_default();
            std::iter::once(items.len()).chain(inner).collect()
        }
        _ => Vec::new(),
    }
}

/// The target of every prompt, or one for all.
fn targets(value: Option<&Value>, prompts: usize) -> Result<Vec<Target>> {
    match value {
        None => Ok(vec![Target::repeating(&["king", "1135", "hello"], " ", "\n", "?", -1)]),
        Some(Value::Array(targets)) if targets.len() == prompts => {
            let target = |(i, value)| Target::parse(value).map_err(|problem| problem.under(i).under("target"));
            targets.iter().enumerate().map(target).collect()
        }
        Some(Value::Array(targets)) => {
            let detail = format!("there are {} targets for {prompts} prompts", targets.len());
            Err(Problem::new(Code::ShapeMismatch, detail).hint("give one for all, or one for each").under("target"))
        }
        Some(value) => Ok(vec![Target::parse(value).map_err(|problem| problem.under("target"))?]),
    }
}

impl Target {
    fn parse(value: &Value) -> Result<Self> {
        let form = "{\"prompt\": …, \"index\": -1} or {\"repeat\": [words]}";
        let object =
            value.as_object().ok_or_else(|| Problem::new(Code::Malformed, "a target is an object").hint(form))?;
        let mut fields = Fields::new("a target", object);
        let whole = |value: &Value| value.as_i64().ok_or_else(|| wrong("index", "a position", value));
        let index = fields.get("index").map(whole).transpose()?.unwrap_or(-1);
        let target = match (fields.text("prompt")?, fields.get("repeat")) {
            (Some(prompt), None) => Self { prompt: prompt.into(), index },
            (None, Some(words)) => {
                let list =
                    words.as_array().and_then(|words| words.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
                let words = list.ok_or_else(|| wrong("repeat", "a list of words", words))?;
                let mut part = |name, default| fields.text(name).map(|text| text.unwrap_or(default));
                Self::repeating(&words, part("rel", " ")?, part("sep", "\n")?, part("placeholder", "?")?, index)
            }
            _ => return Err(Problem::new(Code::MissingField, "a target has either `prompt` or `repeat`").hint(form)),
        };
        fields.finish()?;
        Ok(target)
    }

    /// Each word twice, and the placeholder, whose token is replaced: the prompt of the patchscopes paper.
    fn repeating(words: &[&str], rel: &str, sep: &str, placeholder: &str, index: i64) -> Self {
        let pairs: Vec<String> = words.iter().map(|word| format!("{word}{rel}{word}")).collect();
        Self { prompt: format!("{}{sep}{placeholder}", pairs.join(sep)), index }
    }
}
