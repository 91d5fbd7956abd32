//! What is read off a run that is not changed: probabilities, the logit lens, activations.

use patchbay_graph::fields::Fields;
use patchbay_graph::problem::Result;

use super::Logits;
use crate::Ask;
use crate::arguments::{index, input, layers, of_layers, save_probs, site};
use crate::draft::Draft;

/// `probs` (N V): softmax of the last token's logits.
pub(super) fn next_token_probs(fields: &mut Fields<'_>, _: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    save_probs(draft, fields.count("k")?, ("logits[:, -1]".into(), None))
}

/// `probs` (N L V): softmax of `lm_head(ln_final(x))` of each layer's output at the last token, without soft cap or scale, as nnterp has it
/// (nostalgebraist 2020, *interpreting GPT: the logit lens*).
pub(super) fn logit_lens(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    let lens = logit_lens_of(fields, ask)?;
    save_probs(draft, fields.count("k")?, lens)
}

/// The logits `[N, L, V]` of the lens, as a value of a graph of one input.
pub(super) fn logit_lens_of(fields: &mut Fields<'_>, ask: &Ask<'_>) -> Result<Logits> {
    let layers = layers(fields, ask.tree)?;
    let streams = of_layers(&layers, "output[:, -1]");
    Ok((format!("transpose(project_on_vocab({streams}), 0, 1)"), Some(layers)))
}

/// `activations` (L N D): a site of the layers at one token of each row, of any number of rows.
pub(super) fn activations(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    let site = site(fields, "output")?;
    let layers = layers(fields, ask.tree)?;
    let index = index(fields.get("index"), "index", -1)?;
    let at = match fields_of_heads(site) {
        true => format!("[:, :, {index}]"),
        false => format!("[:, {index}]"),
    };
    // what is as wide as a row is long differs from part to part
    if !matches!(site, "self_attn.scores" | "self_attn.probs") {
        draft.rows_are_apart(1);
    }
    draft.line("/site", &format!("save {} as activations", of_layers(&layers, &format!("{site}{at}"))))
}

/// Whether a site has an axis of heads before that of the tokens.
pub(super) fn fields_of_heads(site: &str) -> bool {
    let heads = ["q", "k", "v", "q_rot", "k_rot", "scores", "probs", "z", "heads"];
    site.strip_prefix("self_attn.").is_some_and(|site| heads.contains(&site))
}
