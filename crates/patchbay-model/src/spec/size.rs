//! How many numbers a model has, known before any of them is read.

use super::{ActivationSpec, FeedForward, LayerSpec, LinearSpec, MlpSpec, MoeSpec, NormSpec, Spec};

impl Spec {
    /// Numbers in all weights that the model is loaded from: what it asks for of its checkpoint, which may have more.
    pub(crate) fn parameters(&self) -> u64 {
        let Self { embedding, head, .. } = self;
        let width = embedding.projection.as_ref().map_or(self.hidden, |projection| projection.input);
        let positions = embedding.positions.as_ref().map_or(0, |positions| product(&[positions.rows, self.hidden]));
        let tied = head.weight == embedding.weight;
        let head_width = head.projection.as_ref().map_or(self.hidden, LinearSpec::output);
        let tables = product(&[self.vocab, width]) + if tied { 0 } else { product(&[self.vocab, head_width]) };
        let bias = head.bias.as_ref().map_or(0, |_| self.vocab as u64);
        let projections = embedding.projection.iter().chain(&head.projection).map(linear).sum::<u64>();
        let norms = embedding.norm.iter().chain(&self.final_norm).map(norm).sum::<u64>();
        tables + positions + bias + projections + norms + self.layers.iter().map(layer).sum::<u64>()
    }
}

fn layer(spec: &LayerSpec) -> u64 {
    let attention = &spec.attention;
    let norms = [&spec.attn_norm, &spec.attn_post_norm, &spec.mlp_norm, &spec.mlp_post_norm];
    let norms = norms.into_iter().chain([&attention.q_norm, &attention.k_norm]).flatten().map(norm).sum::<u64>();
    let latents = [&attention.q_latent, &attention.kv_latent].into_iter().flatten();
    let norms = norms + latents.map(|latent| norm(&latent.norm)).sum::<u64>();
    let projections = attention.projections().chain(spec.mlp.projections()).map(linear).sum::<u64>();
    let sinks = attention.sinks.as_ref().map_or(0, |_| attention.heads as u64);
    let learned = |mlp: &MlpSpec| if matches!(mlp.activation, ActivationSpec::Xielu(_)) { 2 } else { 0 };
    let learned = spec.mlp.mlps().map(learned).sum::<u64>();
    let correction = match &spec.mlp {
        FeedForward::Experts(moe) => correction(moe),
        FeedForward::Mlp(_) => 0,
    };
    norms + projections + correction + sinks + learned
}

fn correction(spec: &MoeSpec) -> u64 {
    spec.router.correction.as_ref().map_or(0, |correction| product(&correction.shape))
}

fn norm(spec: &NormSpec) -> u64 {
    let bias = spec.bias.as_ref().map_or(0, |_| spec.width as u64);
    product(&spec.stored_shape()) * spec.weights.len() as u64 + bias
}

fn linear(spec: &LinearSpec) -> u64 {
    let bias = spec.bias.as_ref().map_or(0, |_| spec.output() as u64);
    product(&[spec.output(), spec.input]) + bias
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size as u64))
}
