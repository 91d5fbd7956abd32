//! Which logits are made.

/// Which logits the unembedding makes: all, by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outputs<'a> {
    /// The rows that go on from `ln_final.output` to `lm_head.output`, in this order; all where nothing stands here.
    pub rows: Option<&'a [u32]>,
    /// The token ids whose logits are made, in this order; those of the whole vocabulary where nothing stands here. Each has the bits
    /// that it has among all.
    pub ids: Option<&'a [u32]>,
}
