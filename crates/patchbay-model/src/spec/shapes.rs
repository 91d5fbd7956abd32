//! What tensors a model is made of, known before any of them is read.

use std::collections::BTreeMap;

use super::{ActivationSpec, FeedForward, LayerSpec, Layout, LinearSpec, NormSpec, Spec};

impl Spec {
    /// Name and shape of every tensor that the model asks for of its checkpoint, which may have more. Those that it may do
    /// without are not among them.
    pub fn stored_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = Shapes::default();
        let Self { embedding, head, .. } = self;
        let width = embedding.projection.as_ref().map_or(self.hidden, |projection| projection.input);
        let head_width = head.projection.as_ref().map_or(self.hidden, LinearSpec::output);
        shapes.add(&head.weight, vec![self.vocab, head_width]);
        shapes.add(&embedding.weight, vec![self.vocab, width]);
        head.bias.iter().for_each(|bias| shapes.add(bias, vec![self.vocab]));
        embedding.positions.iter().for_each(|table| shapes.add(&table.weight, vec![table.rows, self.hidden]));
        embedding.projection.iter().chain(&head.projection).for_each(|projection| shapes.linear(projection));
        embedding.norm.iter().chain(&self.final_norm).for_each(|norm| shapes.norm(norm));
        self.layers.iter().for_each(|layer| shapes.layer(layer));
        shapes.0
    }

    /// Numbers in all these tensors.
    pub(crate) fn parameters(&self) -> u64 {
        let size = |shape: &Vec<usize>| shape.iter().fold(1u64, |size, axis| size.saturating_mul(*axis as u64));
        self.stored_shapes().values().map(size).fold(0, u64::saturating_add)
    }
}

/// Shapes by name.
#[derive(Default)]
struct Shapes(BTreeMap<String, Vec<usize>>);

impl Shapes {
    fn add(&mut self, name: &str, shape: Vec<usize>) {
        self.0.insert(name.to_owned(), shape);
    }

    fn layer(&mut self, spec: &LayerSpec) {
        let attention = &spec.attention;
        let norms = [&spec.attn_norm, &spec.attn_post_norm, &spec.mlp_norm, &spec.mlp_post_norm];
        norms.into_iter().flatten().chain(attention.norms()).for_each(|norm| self.norm(norm));
        attention.projections().chain(spec.mlp.projections()).for_each(|projection| self.linear(projection));
        attention.sinks.iter().for_each(|sinks| self.add(sinks, vec![attention.heads]));
        for mlp in spec.mlp.mlps() {
            if let ActivationSpec::Xielu(xielu) = &mlp.activation {
                [&xielu.alpha_p, &xielu.alpha_n].into_iter().for_each(|name| self.add(name, vec![1]));
            }
        }
        if let FeedForward::Experts(moe) = &spec.mlp {
            moe.router.correction.iter().for_each(|found| self.add(&found.weight, found.shape.clone()));
        }
    }

    fn norm(&mut self, spec: &NormSpec) {
        spec.weights.iter().for_each(|weight| self.add(weight, spec.stored_shape()));
        spec.bias.iter().for_each(|bias| self.add(bias, vec![spec.width]));
    }

    fn linear(&mut self, spec: &LinearSpec) {
        let (input, total) = (spec.input, spec.rows.total);
        let stored = |shape: &[usize]| spec.stack.map_or_else(|| shape.to_vec(), |stack| stack.stored(shape));
        self.add(
            &spec.weight,
            stored(&match spec.layout {
                Layout::OutIn => [total, input],
                Layout::InOut => [input, total],
            }),
        );
        spec.bias.iter().for_each(|bias| self.add(bias, stored(&[total])));
    }
}
