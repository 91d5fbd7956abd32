//! The tuned lens: a logit lens with a translator for each layer.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::Result;

use crate::Ask;
use crate::arguments::{input, layers, save_probs};
use crate::draft::Draft;

/// `probs` (N L V): softmax of `lm_head(ln_final(x + W x + b))` of each layer's output at the last token (Belrose et al. 2023, *Eliciting latent
/// predictions from transformers with the tuned lens*). `lens` names a stored file with `l.weight` (D D) and, where there is one, `l.bias` (D) for
/// each layer l, as the authors' package saves it.
pub(super) fn tuned_lens(fields: &mut Fields<'_>, ask: &Ask<'_>, draft: &mut Draft) -> Result<()> {
    let (input, _) = input(fields)?;
    draft.input("input", input, "/input");
    let value = fields.need("lens")?;
    let name = value
        .as_str()
        .and_then(|name| name.strip_prefix('@'))
        .ok_or_else(|| wrong("lens", "a stored file: \"@name\"", value))?;
    let layers = layers(fields, ask.tree)?;
    for layer in &layers {
        ask.store.describe(name, Some(&format!("{layer}.weight"))).map_err(|problem| problem.under("lens"))?;
        let bias = ask
            .store
            .describe(name, Some(&format!("{layer}.bias")))
            .map_or("".into(), |_| format!(" + @{name}.{layer}.bias"));
        let stream = format!("layers.{layer}.output[:, -1]");
        let moved = format!("matmul({stream}, transpose(@{name}.{layer}.weight, 0, 1))");
        draft.line("/lens", &format!("translated_{layer} = {stream} + {moved}{bias}"))?;
    }
    let streams: Vec<String> = layers.iter().map(|layer| format!("translated_{layer}")).collect();
    let logits = format!("project_on_vocab(stack([{}], 1))", streams.join(", "));
    save_probs(draft, fields.count("k")?, (logits, Some(layers)))
}
