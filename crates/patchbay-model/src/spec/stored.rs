//! Under which names a checkpoint may hold a decoder's tensors.

use super::Spec;

/// A decoder's place in a checkpoint that holds more than it: only the decoder is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the checkpoint calls the decoder (`"language_model"`).
    pub name: &'static str,
    /// What the rest is called in messages (`"vision"`).
    pub rest: &'static str,
}

impl Spec {
    /// The names under which a tensor of this spec may be stored, in the order in which they are looked for.
    ///
    /// A checkpoint of the bare model lacks the first part of its names. Where the decoder is a part, transformers
    /// writes `model.language_model.layers…` and `lm_head.weight`, wrote `language_model.model.layers…` and
    /// `language_model.lm_head.weight`, and for a model without its head `language_model.layers…`.
    pub fn stored_names(&self, name: &str) -> Vec<String> {
        let bare = name.strip_prefix(self.base_prefix);
        match (self.part, bare) {
            (None, bare) => [Some(name), bare].into_iter().flatten().map(str::to_owned).collect(),
            (Some(Part { name: part, .. }), Some(bare)) => {
                vec![format!("model.{part}.{bare}"), format!("{part}.{name}"), format!("{part}.{bare}")]
            }
            (Some(Part { name: part, .. }), None) => vec![name.to_owned(), format!("{part}.{name}")],
        }
    }

    /// Whether a tensor of the checkpoint is, going by its name, the decoder's and not another part's.
    pub fn claims(&self, stored: &str) -> bool {
        let Some(Part { name, .. }) = self.part else { return true };
        let inside = stored.strip_prefix("model.").unwrap_or(stored).strip_prefix(name);
        let head = [Some(&self.head.weight), self.head.own.as_ref(), self.head.bias.as_ref()];
        inside.is_some_and(|rest| rest.starts_with('.')) || head.into_iter().flatten().any(|name| name == stored)
    }
}
