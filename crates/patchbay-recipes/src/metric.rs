//! Metrics: one number of a run's logits.

use patchbay_graph::fields::wrong;
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

use crate::Ask;
use crate::arguments::token;
use crate::draft::Draft;

/// A metric, as the field `metric` has it.
#[derive(Clone, Debug)]
pub(crate) enum Metric {
    /// Logit of one token less that of another, at the last token; the mean over rows.
    LogitDiff(u32, u32),
    /// Probability of a token, at the last token; the mean over rows.
    Prob(u32),
    /// Divergence of the run's probabilities from those of another input's run, at the last token; the mean over rows.
    Kl(String),
    /// A node that makes a number of `logits`.
    Node(Value),
}

const FORMS: &str = "{\"logit_diff\": [\" Mary\", \" John\"]}, {\"prob\": \" Paris\"}, {\"kl\": \"clean\"}, or a node";
/// The sites that a node may name, of the run that is measured.
const SITES: [&str; 6] = ["logits", "layers", "lm_head", "ln_final", "embed_tokens", "next_token_probs"];

impl Metric {
    /// Reads the field; `inputs` are those whose runs there are.
    pub(crate) fn parse(value: &Value, ask: &Ask<'_>, inputs: &[&str]) -> Result<Self> {
        let below = |name: &'static str| move |problem: Problem| problem.under(name).under("metric");
        let Some(object) = value.as_object() else { return Err(wrong("metric", FORMS, value)) };
        if object.contains_key("op") {
            // a node that is no other when its sites are given an input names none
            return match of_input(value, "run/") == *value {
                false => Ok(Self::Node(value.clone())),
                true => Err(Problem::new(Code::UnknownSite, "this node reads no site of the run")
                    .hint("{\"op\": \"sum\", \"args\": [\"logits[:, -1, 7]\"]}")
                    .under("metric")),
            };
        }
        match object.iter().next().map(|(name, value)| (name.as_str(), value)) {
            Some(("logit_diff", pair)) if object.len() == 1 => match pair.as_array().map(Vec::as_slice) {
                Some([a, b]) => {
                    let of = |place: usize, value| {
                        token(value, ask).map_err(|problem| below("logit_diff")(problem.under(place)))
                    };
                    Ok(Self::LogitDiff(of(0, a)?, of(1, b)?))
                }
                _ => Err(below("logit_diff")(
                    Problem::new(Code::BadArgument, "a difference is of two tokens")
                        .hint("{\"logit_diff\": [\" Mary\", \" John\"]}"),
                )),
            },
            Some(("prob", value)) if object.len() == 1 => Ok(Self::Prob(token(value, ask).map_err(below("prob"))?)),
            Some(("kl", value)) if object.len() == 1 => match value.as_str().filter(|name| inputs.contains(name)) {
                Some(name) => Ok(Self::Kl(name.into())),
                None => {
                    let problem = Problem::new(Code::UnknownInput, format!("there is no run {value} to measure from"));
                    Err(below("kl")(problem.suggest(value.as_str().unwrap_or_default(), inputs.iter().copied())))
                }
            },
            _ => Err(Problem::new(Code::BadArgument, "this is no metric").hint(FORMS).under("metric")),
        }
    }

    /// Adds what makes the number of an input's run, under this name.
    pub(crate) fn add(&self, draft: &mut Draft, input: Option<&str>, name: &str) -> Result<()> {
        let of = input.map_or(String::new(), |input| format!("{input}/"));
        let logits = format!("{of}logits[:, -1]");
        match self {
            Self::LogitDiff(a, b) => {
                let last = |token: &u32| format!("{of}logits[:, -1, {token}]");
                draft.line("/metric", &format!("{name} = mean({} - {})", last(a), last(b)))
            }
            Self::Prob(token) => draft.lines(
                "/metric",
                [
                    &*format!("{name}_probs = softmax({logits}, -1)"),
                    &format!("{name} = mean(${name}_probs[:, {token}])"),
                ],
            ),
            Self::Kl(from) => draft.lines(
                "/metric",
                [
                    &*format!("{name}_from = log_softmax({from}/logits[:, -1], -1)"),
                    &format!("{name}_to = log_softmax({logits}, -1)"),
                    &format!("{name} = mean(sum(exp({name}_from) * ({name}_from - {name}_to), -1))"),
                ],
            ),
            Self::Node(node) => {
                let mut node = of_input(node, &of);
                node["id"] = json!(name);
                draft.node("/metric", node)
            }
        }
    }
}

/// A node whose sites are those of an input.
fn of_input(value: &Value, of: &str) -> Value {
    match value {
        Value::String(text) if SITES.iter().any(|site| text.starts_with(site)) => json!(format!("{of}{text}")),
        Value::Array(items) => items.iter().map(|item| of_input(item, of)).collect(),
        Value::Object(object) => {
            let field = |(name, value): (&String, &Value)| match name.as_str() {
                "op" | "module" | "id" => (name.clone(), value.clone()),
                _ => (name.clone(), of_input(value, of)),
            };
            Value::Object(object.iter().map(field).collect())
        }
        value => value.clone(),
    }
}
