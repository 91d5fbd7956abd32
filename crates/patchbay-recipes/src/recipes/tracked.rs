//! Targets: how likely words are that stand for something, prompt by prompt.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Map, Value, json};

use super::{Logits, lens, object_attention, patchscope, steer};
use crate::Ask;
use crate::draft::Draft;
use crate::picture::Picture;
use crate::targets::first_tokens;

/// Recipes that answer with probabilities of the next token.
const THROUGH: [&str; 5] = ["next-token-probs", "logit-lens", "patchscope", "object-attention-lens", "steer"];

/// A prompt's tokens by target.
type Tokens = Vec<(String, Vec<u32>)>;

/// One result a target, (N) or (N L): the summed probability of the first tokens of its words and of the words behind a space; `target_tokens`
/// lists these (nnterp's `Prompt` and `run_prompts`).
pub(super) fn targets(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let list = fields.need("prompts")?;
    let prompts = list.as_array().filter(|prompts| !prompts.is_empty());
    let prompts = prompts.ok_or_else(|| wrong("prompts", "a list of {\"text\": …, \"targets\": {…}}", list))?;
    let (mut texts, mut tokens): (Vec<Value>, Vec<Tokens>) = (Vec::new(), Vec::new());
    for (i, prompt) in prompts.iter().enumerate() {
        let (text, found) = one(prompt, ask).map_err(|problem| problem.under(i).under("prompts"))?;
        texts.push(text);
        tokens.push(found);
    }
    let names: Vec<&String> = tokens[0].iter().map(|(name, _)| name).collect();
    for (i, other) in tokens.iter().enumerate() {
        if other.len() != names.len() || !names.iter().all(|name| other.iter().any(|(other, _)| other == *name)) {
            let problem = Problem::new(Code::BadArgument, "all prompts have targets of the same names");
            return Err(problem
                .hint(format!("the first one has {names:?}"))
                .under("targets")
                .under(i)
                .under("prompts"));
        }
    }
    let (logits, layers) = through(fields, ask, draft, json!(texts))?;
    draft.line("/through", &format!("probs = softmax({logits}, -1)"))?;
    let of =
        |tokens: &Tokens, name: &String| tokens.iter().find(|(other, _)| other == name).map(|(_, ids)| ids.clone());
    for (number, name) in names.iter().enumerate() {
        let ids: Vec<Vec<u32>> = tokens.iter().filter_map(|tokens| of(tokens, name)).collect();
        add(draft, (name, number), &ids, layers.as_ref().map(Vec::len))?;
    }
    draft.picture(Picture::Targets(names.into_iter().cloned().collect(), layers));
    let listed = |tokens: &Tokens| tokens.iter().map(|(name, ids)| (name.clone(), json!(ids))).collect::<Map<_, _>>();
    draft.note("target_tokens", tokens.iter().map(listed).map(Value::Object).collect());
    Ok(())
}

/// A prompt's text and tokens.
fn one(prompt: &Value, ask: &Ask<'_>) -> Result<(Value, Tokens)> {
    let object = prompt
        .as_object()
        .ok_or_else(|| Problem::new(Code::Malformed, "a prompt is {\"text\": …, \"targets\": {\"name\": \"word\"}}"))?;
    let mut fields = Fields::new("a prompt", object);
    let (text, targets) = (fields.need("text")?.clone(), fields.need("targets")?);
    fields.finish()?;
    let one = Map::from_iter([("target".to_owned(), targets.clone())]);
    let named = match targets {
        Value::Object(named) => named,
        _ => &one,
    };
    if named.is_empty() {
        return Err(Problem::new(Code::BadArgument, "a prompt has one target at least").under("targets"));
    }
    let target = |(name, words): (&String, &Value)| {
        let at = |problem: Problem| match targets {
            Value::Object(_) => problem.under(name).under("targets"),
            _ => problem.under("targets"),
        };
        let list = match words {
            Value::Array(words) => words.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            word => word.as_str().map(|word| vec![word]),
        };
        let list = list.filter(|words| !words.is_empty());
        let words =
            list.ok_or_else(|| at(Problem::new(Code::BadArgument, "a target is a word, or a list of words")))?;
        Ok((name.clone(), first_tokens(&words, ask).map_err(at)?))
    };
    Ok((text, named.iter().map(target).collect::<Result<_>>()?))
}

/// The logits of the recipe that the field `through` names. Its own fields stand beside its name:
/// `{"recipe": "logit-lens", "layers": [3]}`.
fn through(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft, texts: Value) -> Result<Logits> {
    let field = fields.get("through");
    let below = |problem: Problem| match field {
        Some(Value::Object(_)) => problem.under("through"),
        _ => problem,
    };
    let mut inner = match field {
        None => Map::new(),
        Some(Value::String(name)) => Map::from_iter([("recipe".to_owned(), json!(name))]),
        Some(Value::Object(inner)) => inner.clone(),
        Some(value) => return Err(wrong("through", "a recipe's name, or {\"recipe\": …} with its fields", value)),
    };
    let name = inner.get("recipe").and_then(Value::as_str).unwrap_or(THROUGH[0]).to_owned();
    let own = if name == "object-attention-lens" { "targets" } else { "input" };
    if let Some(twice) = [own, "latents"].into_iter().find(|field| inner.contains_key(*field)) {
        let detail = format!("`{twice}` are the prompts here");
        return Err(below(Problem::new(Code::BadArgument, detail).under(twice)));
    }
    inner.insert(own.into(), texts.clone());
    let mut fields = Fields::new("`through`", &inner);
    fields.get("recipe");
    let (at, made) = match field {
        Some(Value::Object(_)) => ("/through", format!("/{own}")),
        _ => ("", format!("/{own}")),
    };
    let found = draft.within(at, (&made, "/prompts"), |draft| match name.as_str() {
        "next-token-probs" => {
            draft.input("input", fields.need("input")?, "/input");
            Ok(("logits[:, -1]".to_owned(), None))
        }
        "logit-lens" => {
            draft.input("input", fields.need("input")?, "/input");
            lens::logit_lens_of(&mut fields, ask)
        }
        "patchscope" => patchscope::patchscope_of(&mut fields, ask, draft),
        "object-attention-lens" => object_attention::object_attention_of(&mut fields, ask, draft),
        "steer" => steer::steer_of(&mut fields, ask, draft),
        other => {
            let problem =
                Problem::new(Code::BadArgument, format!("`{other}` gives no probabilities of the next token"));
            let problem = problem.suggest(other, THROUGH);
            Err(if at.is_empty() { problem.under("through") } else { problem.under("recipe") })
        }
    });
    let found = found.map_err(below)?;
    fields.finish().map_err(below)?;
    Ok(found)
}

/// Adds up the probabilities of each prompt's tokens, under the name of the target. Prompts that have fewer tokens than others have their
/// first one several times, and it counts once.
fn add(draft: &mut Draft, (name, number): (&str, usize), ids: &[Vec<u32>], layers: Option<usize>) -> Result<()> {
    let most = ids.iter().map(Vec::len).max().unwrap_or(0);
    let row = |ids: &Vec<u32>| (0..most).map(|place| *ids.get(place).unwrap_or(&ids[0])).collect();
    let count = |ids: &Vec<u32>| (0..most).map(|place| u32::from(place < ids.len())).collect();
    let tensor = |rows: Vec<Vec<u32>>, dtype: &str| json!({"dtype": dtype, "shape": [rows.len(), most], "data": rows});
    draft.operand(&format!("tokens_{number}"), &tensor(ids.iter().map(row).collect(), "i64"), "/prompts")?;
    draft.operand(&format!("counts_{number}"), &tensor(ids.iter().map(count).collect(), "f32"), "/prompts")?;
    let sum = match layers {
        None => format!("sum(gather(probs, 1, tokens_{number}) * counts_{number}, -1)"),
        Some(layers) => {
            let places = format!("expand(unsqueeze(tokens_{number}, 1), [-1, {layers}, -1])");
            format!("einsum(\"nlk,nk->nl\", gather(probs, 2, {places}), counts_{number})")
        }
    };
    draft.line("/prompts", &format!("target_{number} = {sum}"))?;
    draft.node("/prompts", json!({"op": "save", "value": format!("$target_{number}"), "as": name}))?;
    Ok(())
}
