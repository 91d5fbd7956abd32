//! A mixture of experts, priced.

use super::decoder::{Decoder, NoTap, Tap, offer};
use super::meter::{F32, Tensor, Way};
use crate::site::{LayerSite, Site};
use crate::tree::Experts;

impl Decoder<'_> {
    /// The experts, from the router's logits to their output. Which ones tokens choose is not known before: they are taken to
    /// spread over all of them.
    pub(super) fn experts(&self, layer: usize, sizes: Experts, x: &Tensor, tap: &mut dyn Tap) -> Tensor {
        let (kernels, meter, at) = (&self.kernels, self.meter(), |site| Site::Layer(layer, site));
        let biased = self.has(&format!("layers.{layer}.mlp.router.bias"));
        let logits = kernels.linear(x, [self.hidden(), sizes.count as u64], biased);
        let logits = offer(tap, at(LayerSite::RouterLogits), logits);
        let weights = self.router(&logits);
        let written = offer(tap, at(LayerSite::RouterProbs), weights.clone());
        // a write may send every token through every expert
        let each = if written.is(&weights) { sizes.chosen.min(sizes.count) } else { sizes.count };
        drop(weights);
        let mixed = self.mix(layer, sizes, x, &written, each as u64);
        let output = match sizes.shared {
            Some(width) => {
                let shared = self.shared(layer, width, x);
                meter.make(x.elements, &[&mixed, &shared])
            }
            None => mixed,
        };
        offer(tap, at(LayerSite::MlpOutput), output)
    }

    /// The weights of the experts.
    fn router(&self, logits: &Tensor) -> Tensor {
        let (n, meter) = (logits.elements, self.meter());
        let scores = meter.made(n, &[logits], Way::Function(2));
        let chosen = meter.made(n, &[&scores, &meter.fresh(n, F32)], Way::Product);
        meter.made(n, &[&chosen, &chosen], Way::Quotient)
    }

    /// The outputs of the experts, of which every token goes through `each`, added up.
    fn mix(&self, layer: usize, sizes: Experts, x: &Tensor, weights: &Tensor, each: u64) -> Tensor {
        let (meter, hidden) = (self.meter(), self.hidden());
        let tokens = x.elements / hidden.max(1);
        let rows = tokens.saturating_mul(each);
        let running = rows.min(sizes.count as u64).max(1);
        // where nothing is recorded, what one expert makes is gone before the next one runs, and one may have every token
        let recorded = x.varies() || weights.varies();
        let (recorded, part) = if recorded { (running, rows.div_ceil(running)) } else { (1, tokens.min(rows)) };
        let others = rows.saturating_sub(part.saturating_mul(recorded));
        let projections = if self.tree.layers[layer].gate { 3.0 } else { 2.0 };
        meter.work(2.0 * projections * others as f64 * hidden as f64 * sizes.width as f64);
        let others = meter.fresh(others.saturating_mul(hidden), F32);
        let share = |_| {
            let taken = meter.make(part.saturating_mul(hidden), &[x]);
            let output = self.mlp(layer, "mlp.experts.0", sizes.width, &taken, &mut NoTap);
            meter.made(output.elements, &[&output, &meter.make(part, &[weights])], Way::Product)
        };
        let shares: Vec<Tensor> = (0..recorded).map(share).collect();
        let all = meter.make(rows.saturating_mul(hidden), &shares.iter().chain([&others]).collect::<Vec<_>>());
        meter.make(x.elements, &[&meter.fresh(x.elements, F32), &all])
    }

    /// The expert that every token goes through.
    fn shared(&self, layer: usize, width: usize, x: &Tensor) -> Tensor {
        let (meter, hidden) = (self.meter(), self.hidden());
        let output = self.mlp(layer, "mlp.shared_expert", width, x, &mut NoTap);
        if !self.has(&format!("layers.{layer}.mlp.shared_expert_gate")) {
            return output;
        }
        let gate = self.kernels.linear(x, [hidden, 1], false);
        let gate = meter.made(gate.elements, &[&gate], Way::Function(1));
        meter.made(output.elements, &[&output, &gate], Way::Product)
    }
}
