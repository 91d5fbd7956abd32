//! Direct logit attribution: which parts of the model write a logit into the residual stream.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::module::NormPlace;
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

use crate::Ask;
use crate::arguments::{input, token};
use crate::draft::Draft;
use crate::picture::Picture;

/// `attribution` (N, components): each component's share of a token's logit, or of the difference of two, at the last token; they add up to
/// `logit` (N), before a soft cap or scale. The norm is kept as it was in this run (Elhage et al. 2021, *A mathematical framework for transformer
/// circuits*). `components` names them; what no component writes (biases behind the heads, of the norm and of the unembedding) is `rest`.
pub(super) fn direct_logit_attribution(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    let tokens = tokens(fields.need("tokens")?, ask)?;
    let by_head = match fields.text("per")? {
        None | Some("layer") => false,
        Some("head") => true,
        Some(other) => {
            let problem = Problem::new(Code::BadArgument, format!("shares are not told by {other:?}"));
            return Err(problem.suggest(other, ["layer", "head"]).under("per"));
        }
    };
    direction(draft, &tokens, ask)?;
    let dot = |site: &str| format!("einsum(\"lnd,nd->nl\", layers.*.{site}[:, -1], u)");
    draft.lines(
        "/input",
        [
            "embed = sum(layers.0.input[:, -1] * u, -1, keepdim=true)",
            &*format!("mlp = {}", dot("mlp_add")),
            &*match by_head {
                false => format!("attn = {}", dot("attn_add")),
                true => heads(ask)?,
            },
            "known = cat([embed, attn, mlp], 1)",
            "save cat([known, unsqueeze(logit, 1) - sum(known, 1, keepdim=true)], 1) as attribution",
            "save logit as logit",
        ],
    )?;
    let layers = ask.tree.layers.iter().enumerate();
    let attn = layers.clone().flat_map(|(layer, tree)| match by_head {
        false => vec![format!("{layer}.attn")],
        true => (0..tree.heads).map(|head| format!("{layer}.head.{head}")).collect(),
    });
    let names = std::iter::once("embed".to_owned()).chain(attn).chain(layers.map(|(layer, _)| format!("{layer}.mlp")));
    let names: Vec<String> = names.chain(["rest".to_owned()]).collect();
    draft.note("components", json!(names));
    draft.picture(Picture::Attribution(names));
    Ok(())
}

/// One token, or a difference of two.
fn tokens(value: &Value, ask: &Ask<'_>) -> Result<Vec<u32>> {
    match value {
        Value::Array(pair) if pair.len() == 1 || pair.len() == 2 => {
            let of = |(i, value)| token(value, ask).map_err(|problem: Problem| problem.under(i).under("tokens"));
            pair.iter().enumerate().map(of).collect()
        }
        Value::String(_) | Value::Number(_) => Ok(vec![token(value, ask).map_err(|problem| problem.under("tokens"))?]),
        value => Err(wrong("tokens", "a token, or a list of one or two", value)),
    }
}

/// `u` `[N, D]`, by which a part of the last stream has to be multiplied, and `logit` `[N]`. The norm divides by a number of its own for each
/// row, which its input and output tell: it is the slope of the output without its bias by the input times the weight.
fn direction(draft: &mut Draft, tokens: &[u32], ask: &Ask<'_>) -> Result<()> {
    let has = |name: &str| ask.tree.weights.has(name);
    let row = |token: &u32| format!("weights.lm_head[{token}]");
    let logit = |token: &u32| format!("lm_head.output[:, -1, {token}]");
    let difference = |part: &dyn Fn(&u32) -> String| match tokens {
        [one] => part(one),
        [one, other, ..] => format!("{} - {}", part(one), part(other)),
        [] => String::new(),
    };
    let weighted = if has("ln_final") { "parts * weights.ln_final" } else { "parts" };
    let unbiased =
        if has("ln_final.bias") { "ln_final.output[:, -1] - weights.ln_final.bias" } else { "ln_final.output[:, -1]" };
    let stream = match ask.centres {
        true => "ln_final.input[:, -1] - mean(ln_final.input[:, -1], -1, keepdim=true)",
        false => "ln_final.input[:, -1]",
    };
    let turned = if has("ln_final") { "wanted * weights.ln_final" } else { "wanted" };
    draft.lines(
        "/tokens",
        [
            &*format!("parts = {stream}"),
            &format!("inner = {weighted}"),
            &format!("scale = sum(({unbiased}) * inner, -1, keepdim=true) / sum(inner * inner, -1, keepdim=true)"),
            &format!("wanted = {}", difference(&row)),
            &format!("weighed = {turned}"),
            // a mean that the norm takes off every part is taken off the direction instead
            match ask.centres {
                true => "u = (weighed - mean(weighed)) * scale",
                false => "u = weighed * scale",
            },
            &format!("logit = {}", difference(&logit)),
        ],
    )
}

/// The shares of all heads, layer by layer, as far as they go into the stream as they are.
fn heads(ask: &Ask<'_>) -> Result<String> {
    if let Some(layer) = ask.tree.layers.iter().position(|layer| layer.norms.contains(&NormPlace::AttnPostNorm)) {
        let detail =
            format!("the attention of layer {layer} goes through a norm, so heads have no shares of their own");
        return Err(Problem::new(Code::Unsupported, detail).hint("\"per\": \"layer\"").under("per"));
    }
    let layer = |layer: usize| {
        // a model may weigh what attention adds: by one number, which both sites tell
        let (out, add) = (format!("layers.{layer}.self_attn.output[:, -1]"), format!("layers.{layer}.attn_add[:, -1]"));
        let weight = format!("sum({add} * {out}, -1, keepdim=true) / sum({out} * {out}, -1, keepdim=true)");
        format!("einsum(\"nhd,nd->nh\", layers.{layer}.self_attn.heads[:, :, -1], u) * ({weight})")
    };
    let layers: Vec<String> = (0..ask.tree.layers.len()).map(layer).collect();
    Ok(format!("attn = cat([{}], 1)", layers.join(", ")))
}
