//! What of a checkpoint a decoder is, and what is left out of it.

use patchbay_checkpoint::Weights;

use crate::spec::{ActivationSpec, MlpSpec, Spec};

/// How many numbers a decoder reads from these weights, before any of them is read. That of a head which the weights have though
/// it is said to be the embedding's counts as one of its own: whether it differs is seen when it is there.
pub fn parameters(spec: &Spec, weights: &Weights) -> u64 {
    let there = |name: &str| spec.stored_names(name).iter().any(|stored| weights.contains(stored));
    let own = spec.head.own.as_deref().is_some_and(|own| there(own) && there(&spec.embedding.weight));
    let xielu = |mlp: &'_ MlpSpec| match &mlp.activation {
        ActivationSpec::Xielu(xielu) => [&xielu.beta, &xielu.eps].into_iter().filter(|name| there(name)).count(),
        ActivationSpec::Fixed(_) => 0,
    };
    let xielu: usize = spec.layers.iter().flat_map(|layer| layer.mlp.mlps()).map(xielu).sum();
    spec.parameters() + xielu as u64 + if own { spec.vocab as u64 * spec.hidden as u64 } else { 0 }
}

/// What a user has to know about parts that are left out, if any are.
pub(crate) fn left_out(spec: &Spec, weights: &Weights) -> Option<String> {
    let rest = spec.part?.rest;
    let (tensors, parameters) = count(weights, |name| !spec.claims(name));
    (tensors > 0).then(|| {
        format!(
            "only the text part of this `{}` checkpoint is loaded: its {rest} part ({tensors} tensors of {parameters} \
             numbers) is left out, and inputs are text alone",
            spec.model_type
        )
    })
}

/// How many tensors have such names, and how many numbers they have.
fn count(weights: &Weights, wanted: impl Fn(&str) -> bool) -> (u64, u64) {
    let shapes = weights.names().filter(|name| wanted(name)).filter_map(|name| weights.shape(name));
    let size = |shape: &[usize]| shape.iter().fold(1u64, |product, &size| product.saturating_mul(size as u64));
    shapes.fold((0, 0), |(tensors, numbers), shape| (tensors + 1, numbers.saturating_add(size(shape))))
}
