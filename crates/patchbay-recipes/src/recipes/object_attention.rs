//! What a prompt says when attention sees another prompt's last token in place of one of its own.

use patchbay_graph::fields::Fields;
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::Value;

use super::Logits;
use crate::Ask;
use crate::arguments::{index, layers, repeated, rows, save_probs};
use crate::draft::Draft;

/// `probs` (N L V): in layers [l, l + num_patches) the attention input at the target's token `index` is the source's last-token one
/// (nnterp's `patch_object_attn_lens`).
pub(super) fn object_attention_lens(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let logits = object_attention_of(fields, ask, draft)?;
    save_probs(draft, fields.count("k")?, logits)
}

/// The logits `[N, L, V]`.
pub(super) fn object_attention_of(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<Logits> {
    let (sources, targets) = (fields.need("sources")?, fields.need("targets")?);
    let prompts = rows(targets);
    if rows(sources) != prompts {
        let detail = format!("there are {} sources for {prompts} targets", rows(sources));
        return Err(Problem::new(Code::ShapeMismatch, detail).hint("give one source for each target").under("sources"));
    }
    let patches = fields.count("num_patches")?.unwrap_or(5);
    if patches == 0 {
        return Err(Problem::new(Code::EmptyWrite, "`num_patches` is 1 or more").under("num_patches"));
    }
    let layers = layers(fields, ask.tree)?;
    let index = index(fields.get("index"), "index", -1)?;
    draft.input("source", sources, "/sources");
    let each = match targets {
        Value::Array(rows) => rows.clone(),
        one => vec![one.clone()],
    };
    let several = each.iter().flat_map(|row| layers.iter().map(move |_| row.clone()));
    draft.made_input("target", repeated(several), "/targets");
    for layer in 0..ask.tree.layers.len() {
        let patched = |first: &usize| (*first..first + patches).contains(&layer);
        let places: Vec<usize> = (0..layers.len()).filter(|place| patched(&layers[*place])).collect();
        if places.is_empty() {
            continue;
        }
        let of = |prompt: usize| {
            let rows = prompt * layers.len();
            places.iter().map(move |place| (rows + place, prompt))
        };
        let (to, from): (Vec<usize>, Vec<usize>) = (0..prompts).flat_map(of).unzip();
        let site = format!("layers.{layer}.self_attn.input");
        draft.line("/index", &format!("target/{site}[{to:?}, {index}] = source/{site}[{from:?}, -1]"))?;
    }
    Ok((format!("reshape(target/logits[:, -1], [{prompts}, {}, -1])", layers.len()), Some(layers)))
}
