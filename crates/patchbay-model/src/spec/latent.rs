//! Latent attention: queries, keys and values made of a few numbers a token.

use super::{AttentionSpec, LinearSpec, NormSpec};

/// A narrow projection of attention's input, of which queries, or keys and values, are projected (DeepSeek-AI 2024,
/// <https://arxiv.org/abs/2405.04434>).
#[derive(Clone, Debug, PartialEq)]
pub struct LatentSpec {
    /// Projection of attention's input: the latent, and after it what every key head ends with.
    pub down: LinearSpec,
    /// The norm of the latent, whose width is the latent's.
    pub norm: NormSpec,
}

impl AttentionSpec {
    /// What its projections take in the input's place, for queries and for keys and values.
    fn latents(&self) -> impl Iterator<Item = &LatentSpec> {
        self.q_latent.iter().chain(&self.kv_latent)
    }

    /// Its projections, those of latents among them.
    pub fn projections(&self) -> impl Iterator<Item = &LinearSpec> {
        [&self.q, &self.k, &self.v, &self.o].into_iter().chain(self.latents().map(|latent| &latent.down))
    }

    /// Its norms, those of latents among them.
    pub fn norms(&self) -> impl Iterator<Item = &NormSpec> {
        self.q_norm.iter().chain(&self.k_norm).chain(self.latents().map(|latent| &latent.norm))
    }
}
