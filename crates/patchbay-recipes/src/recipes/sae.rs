//! Sparse autoencoders: what is active, what it makes of an activation, and what happens when a feature is held.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

use crate::Ask;
use crate::arguments::{input, layer, save_probs, site};
use crate::draft::Draft;

/// What is done with the features.
const ACTIONS: [&str; 4] = ["encode", "decode", "top", "clamp"];

/// A stored autoencoder with `W_enc` (D F), `b_enc` (F), `W_dec` (F D), `b_dec` (D) and, for a jump, `threshold` (F), at a site of a layer.
///
/// - `encode`: `features` (N S F).
/// - `decode`: `reconstruction` (N S D), and `unexplained` (N S): the share of the activation's squares that it lacks.
/// - `top`: `values` and `indices` (N S k) of the k features that are most active.
/// - `clamp`: holds features at values (`{"feature": value}`) and answers with `probs`, or `top` with `k`. What the autoencoder does not explain stays:
///   x becomes x + (value − feature) · its row of W_dec (Templeton et al. 2024, *Scaling monosemanticity*).
pub(super) fn sae(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    let value = fields.need("layer")?;
    let layer = layer(value, ask.tree.layers.len()).map_err(|problem| problem.under("layer"))?;
    let site = format!("layers.{layer}.{}", site(fields, "output")?);
    encoder(draft, fields, ask, &site)?;
    let k = fields.count("k")?;
    match fields.text("action")?.unwrap_or("encode") {
        "encode" => draft.line("/sae", "save features as features"),
        "top" => draft.lines(
            "/k",
            [
                &*format!("most = topk(features, {})", k.unwrap_or(8)),
                "save most.values as values",
                "save most.indices as indices",
            ],
        ),
        "decode" => draft.lines(
            "/sae",
            [
                &*format!("made = matmul(features, {}) + {}", part(fields, "W_dec")?, part(fields, "b_dec")?),
                &format!("lacks = {site} - made"),
                "save made as reconstruction",
                &format!("save sum(lacks * lacks, -1) / sum({site} * {site}, -1) as unexplained"),
            ],
        ),
        "clamp" => clamp(draft, fields, &site, k),
        other => {
            let problem = Problem::new(Code::BadArgument, format!("there is no action `{other}`"));
            Err(problem.suggest(other, ACTIONS).under("action"))
        }
    }
}

/// A tensor of the autoencoder.
fn part(fields: &mut Fields<'_>, key: &str) -> Result<String> {
    let value = fields.need("sae")?;
    let name = value.as_str().filter(|name| name.starts_with('@'));
    name.map(|name| format!("{name}.{key}")).ok_or_else(|| wrong("sae", "a stored autoencoder: \"@name\"", value))
}

/// `features` `[N, S, F]` of the activation. Without a jump the decoder's bias is taken off the activation first (Bricken et al. 2023), unless
/// `center` says otherwise; with one it is not (Rajamanoharan et al. 2024, *Jumping ahead*).
fn encoder(draft: &mut Draft, fields: &mut Fields<'_>, ask: &Ask<'_>, site: &str) -> Result<()> {
    let part = |fields: &mut Fields<'_>, key: &str| part(fields, key);
    let (weights, bias, offset) = (part(fields, "W_enc")?, part(fields, "b_enc")?, part(fields, "b_dec")?);
    let threshold = part(fields, "threshold")?;
    let name = weights.trim_start_matches('@').trim_end_matches(".W_enc").to_owned();
    for key in ["W_enc", "b_enc", "W_dec", "b_dec"] {
        ask.store.describe(&name, Some(key)).map_err(|problem| problem.under("sae"))?;
    }
    let jumps = ask.store.describe(&name, Some("threshold")).is_ok();
    let read = match fields.flag("center")?.unwrap_or(!jumps) {
        true => format!("({site} - {offset})"),
        false => site.to_owned(),
    };
    draft.line("/sae", &format!("pre = matmul({read}, {weights}) + {bias}"))?;
    match (jumps, fields.count("top_k")?) {
        (true, _) => draft.line("/sae", &format!("features = relu(pre) * cast(pre > {threshold}, \"f32\")")),
        (false, None) => draft.line("/sae", "features = relu(pre)"),
        (false, Some(count)) => draft.lines(
            "/top_k",
            [
                &*format!("largest = topk(pre, {count})"),
                "features = relu(pre) * cast(pre >= $largest[..., -1:], \"f32\")",
            ],
        ),
    }
}

/// Holds features at values.
fn clamp(draft: &mut Draft, fields: &mut Fields<'_>, site: &str, k: Option<usize>) -> Result<()> {
    let value = fields.need("clamp")?;
    let form = || wrong("clamp", "an object of values by feature, as {\"12\": 8.0}", value);
    let object = value.as_object().filter(|object| !object.is_empty()).ok_or_else(form)?;
    let number = |(feature, value): (&String, &Value)| Some((feature.parse::<usize>().ok()?, value.as_f64()?));
    let held: Vec<(usize, f64)> = object.iter().map(number).collect::<Option<_>>().ok_or_else(form)?;
    let (features, values): (Vec<usize>, Vec<f64>) = held.into_iter().unzip();
    let decoder = part(fields, "W_dec")?;
    let tokens = match fields.get("tokens") {
        None => ":".to_owned(),
        Some(Value::String(tokens)) => tokens.clone(),
        Some(value) => value.to_string(),
    };
    draft.node(
        "/clamp",
        json!({"op": "clone", "id": "wanted", "args": [{"dtype": "f32", "shape": [values.len()], "data": values}]}),
    )?;
    draft.lines(
        "/clamp",
        [
            &*format!("moved = matmul(wanted - $features[:, {tokens}, {features:?}], {decoder}[{features:?}])"),
            &format!("{site}[:, {tokens}] += moved"),
        ],
    )?;
    save_probs(draft, k, ("logits[:, -1]".into(), None))
}
