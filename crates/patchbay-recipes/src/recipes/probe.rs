//! Linear probes: what can be read off a site by one direction.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

use super::lens::fields_of_heads;
use crate::Ask;
use crate::arguments::{index, layers, of_layers, site};
use crate::draft::Draft;
use crate::picture::Picture;

/// Steps of conjugate gradients at most: more than enough with a ridge of one.
const STEPS: usize = 48;
/// Every such example of a class is held out.
const HELD_OUT: usize = 4;

/// `accuracy` (L): how many of the held-out examples a linear probe of each layer gets right, and `train_accuracy` (L); `weights` (L D C) and `bias`
/// (C) of the probes on standardised activations (Alain and Bengio 2016, *Understanding intermediate layers using linear classifier probes*).
///
/// A probe is a ridge regression on ±1 for each class, whose largest output wins: activations of a site at one token, less their mean and divided
/// by their standard deviation over the training examples. It is solved in its dual form, (K + λI) α = y with K = X Xᵀ / D, by conjugate gradients
/// (Hestenes and Stiefel 1952), for all layers and classes at once. `prompts` are `{"text", "label"}`; of each class every fourth is held out.
pub(super) fn probe(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (texts, labels) = examples(fields)?;
    let classes = classes(&labels)?;
    let class = |label: &String| classes.iter().position(|class| class == label).unwrap_or(0);
    let (train, held) = split(&labels, &classes)?;
    draft.made_input("input", json!(texts), "/prompts");
    let site = site(fields, "output")?;
    if fields_of_heads(site) {
        let problem = Problem::new(Code::Unsupported, "a probe reads a vector a token, and this site has heads");
        return Err(problem.hint("a site of the stream, or what a module gives").under("site"));
    }
    let layers = layers(fields, ask.tree)?;
    let index = index(fields.get("index"), "index", -1)?;
    let ridge = fields.number("ridge")?.unwrap_or(1.0);
    if ridge <= 0.0 {
        return Err(Problem::new(Code::BadArgument, "`ridge` is above 0").under("ridge"));
    }
    let all = of_layers(&layers, &format!("{site}[:, {index}]"));
    draft.line("/site", &format!("all = {all}"))?;
    let of = |rows: &[usize]| -> Vec<usize> { rows.iter().map(|row| class(&labels[*row])).collect() };
    let signs = |rows: &[usize]| -> Vec<Vec<i8>> {
        of(rows)
            .iter()
            .map(|one| (0..classes.len()).map(|class| if *one == class { 1 } else { -1 }).collect())
            .collect()
    };
    let tensor = |name: &str, value: Value, dtype: &str, shape: &[usize]| json!({"op": "clone", "id": name, "args": [{"dtype": dtype, "shape": shape, "data": value}]});
    draft.node("/prompts", tensor("y", json!(signs(&train)), "f32", &[train.len(), classes.len()]))?;
    draft.node("/prompts", tensor("train_class", json!(of(&train)), "i64", &[train.len()]))?;
    draft.node("/prompts", tensor("held_class", json!(of(&held)), "i64", &[held.len()]))?;
    solve(draft, &train, &held, ridge)?;
    draft.picture(Picture::Accuracy(layers));
    draft.note("classes", json!(classes));
    draft.note("held_out", json!(held));
    Ok(())
}

/// Texts and their labels.
fn examples(fields: &mut Fields<'_>) -> Result<(Vec<Value>, Vec<String>)> {
    let list = fields.need("prompts")?;
    let prompts = list.as_array().ok_or_else(|| wrong("prompts", "a list of {\"text\": …, \"label\": …}", list))?;
    let example = |(i, prompt): (usize, &Value)| {
        let at = |problem: Problem| problem.under(i).under("prompts");
        let object =
            prompt.as_object().ok_or_else(|| at(Problem::new(Code::Malformed, "an example has a text and a label")))?;
        let mut fields = Fields::new("an example", object);
        let text = fields.need("text").map_err(at)?.clone();
        let label = match fields.need("label").map_err(at)? {
            Value::String(label) => label.clone(),
            label @ (Value::Number(_) | Value::Bool(_)) => label.to_string(),
            label => return Err(at(wrong("label", "a text, a number, or true or false", label))),
        };
        fields.finish().map_err(at)?;
        Ok((text, label))
    };
    Ok(prompts.iter().enumerate().map(example).collect::<Result<Vec<_>>>()?.into_iter().unzip())
}

/// The labels that there are, in order.
fn classes(labels: &[String]) -> Result<Vec<String>> {
    let mut classes = labels.to_vec();
    classes.sort();
    classes.dedup();
    match classes.len() {
        2.. => Ok(classes),
        found => {
            let problem = Problem::new(Code::BadArgument, format!("a probe tells classes apart, and here are {found}"));
            Err(problem.hint("give examples with two labels at least").under("prompts"))
        }
    }
}

/// The examples to train on, and those that are held out.
fn split(labels: &[String], classes: &[String]) -> Result<(Vec<usize>, Vec<usize>)> {
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for class in classes {
        let own: Vec<usize> = (0..labels.len()).filter(|row| labels[*row] == *class).collect();
        if own.len() < HELD_OUT {
            let detail = format!("the class `{class}` has {} examples, {HELD_OUT} are the least", own.len());
            return Err(Problem::new(Code::BadArgument, detail).hint("one of them is held out").under("prompts"));
        }
        for (place, row) in own.into_iter().enumerate() {
            if place % HELD_OUT == HELD_OUT - 1 { held.push(row) } else { train.push(row) }
        }
    }
    train.sort_unstable();
    held.sort_unstable();
    Ok((train, held))
}

/// The probes of all layers, and how well they do.
fn solve(draft: &mut Draft, train: &[usize], held: &[usize], ridge: f64) -> Result<()> {
    draft.lines(
        "/prompts",
        [
            &*format!("x_raw = $all[:, {train:?}]"),
            "center = mean(x_raw, 1, keepdim=true)",
            "spread = std(x_raw, 1, keepdim=true, correction=0) + 1e-6",
            "x = (x_raw - center) / spread",
            &format!("x_held = ($all[:, {held:?}] - center) / spread"),
            "width = mean(sum(x * x, -1)) + 1e-6",
            "kernel = matmul(x, transpose(x, 1, 2)) / width",
            "bias = mean(y, 0)",
            "residual_0 = (y - bias) + 0 * matmul(kernel, y)",
            "direction_0 = residual_0",
            "alpha_0 = 0 * residual_0",
            "rest_0 = sum(residual_0 * residual_0, 1, keepdim=true)",
        ],
    )?;
    let steps = STEPS.min(train.len());
    for step in 0..steps {
        let next = step + 1;
        draft.lines(
            "/prompts",
            [
                &*format!("image_{step} = matmul(kernel, direction_{step}) + {ridge} * direction_{step}"),
                &format!(
                    "length_{step} = rest_{step} / (sum(direction_{step} * image_{step}, 1, keepdim=true) + 1e-30)"
                ),
                &format!("alpha_{next} = alpha_{step} + length_{step} * direction_{step}"),
            ],
        )?;
        if next < steps {
            draft.lines(
                "/prompts",
                [
                    &*format!("residual_{next} = residual_{step} - length_{step} * image_{step}"),
                    &format!("rest_{next} = sum(residual_{next} * residual_{next}, 1, keepdim=true)"),
                    &format!(
                        "direction_{next} = residual_{next} + rest_{next} / (rest_{step} + 1e-30) * direction_{step}"
                    ),
                ],
            )?;
        }
    }
    let right = |scores: &str, class: &str| format!("mean(cast(argmax({scores}, -1) == {class}, \"f32\"), 1)");
    draft.lines(
        "/prompts",
        [
            &*format!("weights_of = matmul(transpose(x, 1, 2), alpha_{steps}) / width"),
            &format!("save {} as accuracy", right("matmul(x_held, weights_of) + bias", "held_class")),
            &format!("save {} as train_accuracy", right("matmul(x, weights_of) + bias", "train_class")),
            "save weights_of as weights",
            "save bias as bias",
        ],
    )
}
