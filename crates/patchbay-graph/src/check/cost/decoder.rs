//! The decoder, priced: embedding, blocks, unembedding.

use super::kernels::{Heads, Kernels, Packed};
use super::meter::{F32, Meter, Tensor};
use super::priced::Priced;
use crate::module::{Module, NormPlace};
use crate::site::{LayerSite, Site};
use crate::tree::{LayerTree, Tree};

/// Outputs of a projection that the kernels make together.
const PANEL: u64 = 32;

/// What looks into the priced pass.
pub(super) trait Tap {
    fn wants(&self, site: Site) -> bool;
    /// Whether it wants some site of a block.
    fn wants_of(&self, layer: usize) -> bool;
    fn visit(&mut self, site: Site, value: Tensor) -> Tensor;
}

/// A tap that wants nothing.
pub(super) struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: Site) -> bool {
        false
    }

    fn wants_of(&self, _: usize) -> bool {
        false
    }

    fn visit(&mut self, _: Site, value: Tensor) -> Tensor {
        value
    }
}

pub(super) fn offer(tap: &mut dyn Tap, site: Site, value: Tensor) -> Tensor {
    if tap.wants(site) { tap.visit(site, value) } else { value }
}

/// What a projection takes in attention's place of an input.
struct Latent {
    x: Tensor,
    width: u64,
    /// What the names of the projections of it have after their letter.
    part: &'static str,
    /// What is projected beyond it, which every key head shares.
    beyond: Option<Tensor>,
}

/// A model.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a> {
    pub(super) tree: &'a Tree,
    pub(super) kernels: Kernels<'a>,
    pub(super) priced: &'a Priced,
}

/// What goes through a block.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Through {
    /// Tokens that come in.
    pub(super) tokens: usize,
    /// Those that go on once keys and values are made.
    pub(super) onward: usize,
    /// Number and first position of the tokens of each segment that goes on.
    pub(super) segments: Vec<(usize, usize)>,
}

impl Through {
    /// Whole sequences.
    fn whole(lengths: &[usize]) -> Self {
        let tokens = lengths.iter().sum();
        Self { tokens, onward: tokens, segments: lengths.iter().map(|len| (*len, 0)).collect() }
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn meter(&self) -> &'a Meter {
        self.kernels.meter
    }

    /// The same with operations that have a derivative.
    pub(super) fn differentiable(self) -> Self {
        Self { kernels: Kernels { plain: true, ..self.kernels }, ..self }
    }

    pub(super) fn hidden(&self) -> u64 {
        self.tree.hidden as u64
    }

    pub(super) fn has(&self, weight: &str) -> bool {
        self.tree.weights.has(weight)
    }

    pub(super) fn embed(&self, tokens: u64, tap: &mut dyn Tap) -> Tensor {
        let (n, meter) = (tokens * self.hidden(), self.meter());
        let _ids = meter.hold(2 * F32 * tokens);
        let x = offer(tap, Site::EmbedTokens, meter.fresh(n, F32));
        if !self.has("embed_positions") {
            return x;
        }
        meter.make(n, &[&x, &meter.fresh(n, F32)])
    }

    /// Bytes of the angles that rotate these tokens.
    pub(super) fn angles(&self, tokens: u64) -> u64 {
        let dim = self.tree.layers.first().map_or(0, |layer| layer.head_dim as u64);
        if self.has("embed_positions") { 0 } else { F32 * tokens * dim }
    }

    /// The norm of a value, where there is one.
    fn normed(&self, layer: usize, place: NormPlace, x: Tensor) -> Tensor {
        if self.tree.layers[layer].norms.contains(&place) { self.norm(layer, place, &x) } else { x }
    }

    fn norm(&self, layer: usize, place: NormPlace, x: &Tensor) -> Tensor {
        self.kernels.norm(x, self.hidden(), self.has(&format!("layers.{layer}.{}.bias", place.name())))
    }

    pub(super) fn block(&self, layer: usize, x: Tensor, through: &Through, tap: &mut dyn Tap) -> Tensor {
        match tap.wants_of(layer) || x.varies() {
            true => self.block_in_full(layer, x, through, tap),
            false => self.priced.block(self, layer, x, through),
        }
    }

    /// A block, step by step.
    pub(super) fn block_in_full(&self, layer: usize, x: Tensor, through: &Through, tap: &mut dyn Tap) -> Tensor {
        let at = |site| Site::Layer(layer, site);
        let sum = |a: &Tensor, b: Tensor| self.meter().make(a.elements, &[a, &b]);
        let x = offer(tap, at(LayerSite::Input), x);
        let attn_normed = self.normed(layer, NormPlace::AttnNorm, x.clone());
        let attn_input = offer(tap, at(LayerSite::AttnInput), attn_normed.clone());
        let attn = self.attention(layer, &attn_input, through, tap);
        let attn = offer(tap, at(LayerSite::AttnAdd), self.normed(layer, NormPlace::AttnPostNorm, attn));
        let x = self.going_on(x, through);
        let with_attn = sum(&x, attn);
        let (stream, mlp_input) = match self.tree.layers[layer].sequential {
            true => {
                let mid = offer(tap, at(LayerSite::ResidMid), with_attn);
                let normed = self.normed(layer, NormPlace::MlpNorm, mid.clone());
                (mid, normed)
            }
            false if self.tree.layers[layer].norms.contains(&NormPlace::MlpNorm) => {
                (with_attn, self.norm(layer, NormPlace::MlpNorm, &x))
            }
            false => (with_attn, self.going_on(attn_normed.clone(), through)),
        };
        let mlp_input = offer(tap, at(LayerSite::MlpInput), mlp_input);
        let mlp = self.feed_forward(layer, &mlp_input, tap);
        let mlp = offer(tap, at(LayerSite::MlpAdd), self.normed(layer, NormPlace::MlpPostNorm, mlp));
        let out = sum(&stream, mlp);
        offer(tap, at(LayerSite::Output), out)
    }

    /// The rows that go on.
    fn going_on(&self, x: Tensor, through: &Through) -> Tensor {
        let elements = x.elements / through.tokens.max(1) as u64 * through.onward as u64;
        if through.onward == through.tokens { x } else { self.meter().make(elements, &[&x]) }
    }

    fn attention(&self, layer: usize, x: &Tensor, through: &Through, tap: &mut dyn Tap) -> Tensor {
        let LayerTree { heads, kv_heads, head_dim, value_dim, window, chunk, .. } = self.tree.layers[layer];
        let [heads, kv_heads, key, value] = [heads, kv_heads, head_dim, value_dim].map(|size| size as u64);
        let (kernels, at) = (&self.kernels, |site| Site::Layer(layer, site));
        let sinks = self.has(&format!("layers.{layer}.self_attn.sinks"));
        let packed = Packed::new(&through.segments, window, chunk);
        let sizes = Heads { heads, key, value, sinks };
        let biased = |name: &str| self.has(&format!("layers.{layer}.self_attn.{name}.bias"));
        let normed = |name: &str, x: &Tensor| match self.has(&format!("layers.{layer}.self_attn.{name}")) {
            true => kernels.norm(x, key, biased(name)),
            false => x.clone(),
        };
        let asking = self.going_on(x.clone(), through);
        let projected = self.projected(layer, [&asking, x], [heads * key, kv_heads * key, kv_heads * value]);
        drop(asking);
        let (q, k) = (normed("q_norm", &projected[0]), normed("k_norm", &projected[1]));
        let q = offer(tap, at(LayerSite::Q), q);
        let k = offer(tap, at(LayerSite::K), k);
        let v = offer(tap, at(LayerSite::V), projected[2].clone());
        let rotates = !self.has("embed_positions");
        let rotated = |x: Tensor| if rotates { kernels.rotate(&x) } else { x };
        let (q, k) = (rotated(q), rotated(k));
        let q = offer(tap, at(LayerSite::QRot), q);
        let k = offer(tap, at(LayerSite::KRot), k);
        let z = if tap.wants(at(LayerSite::Scores)) || tap.wants(at(LayerSite::Probs)) {
            let scores = offer(tap, at(LayerSite::Scores), kernels.scores(&q, &k, &packed, sizes));
            let probs = offer(tap, at(LayerSite::Probs), kernels.probs(&scores, &packed, sizes));
            kernels.mix(&probs, &v, &packed, sizes)
        } else {
            kernels.attention([&q, &k, &v], &packed, sizes)
        };
        let z = offer(tap, at(LayerSite::Z), z);
        let output = self.project_heads(layer, &z, tap);
        offer(tap, at(LayerSite::AttnOutput), output)
    }

    /// Queries, keys and values of these widths, projected from `x` or from latents of it.
    fn projected(&self, layer: usize, [asking, x]: [&Tensor; 2], [q, k, v]: [u64; 3]) -> [Tensor; 3] {
        let linear = |from: &Latent, name: &str, output: u64| {
            let name = format!("layers.{layer}.self_attn.{name}{}_proj.bias", from.part);
            self.kernels.linear(&from.x, [from.width, output], self.has(&name))
        };
        let (meter, kv_heads) = (self.meter(), self.tree.layers[layer].kv_heads as u64);
        let queries = linear(&self.narrowed(layer, "q", asking), "q", q);
        let latent = self.narrowed(layer, "kv", x);
        let tokens = x.elements / self.hidden().max(1);
        let beyond = latent.beyond.as_ref().map_or(0, |beyond| kv_heads * beyond.elements / tokens.max(1));
        let (keys, values) = (linear(&latent, "k", k.saturating_sub(beyond)), linear(&latent, "v", v));
        let keys = match &latent.beyond {
            Some(shared) => meter.make(tokens * k, &[&keys, &meter.make(tokens * beyond, &[shared])]),
            None => keys,
        };
        [queries, keys, values]
    }

    /// What queries, or keys and values, are projected from: `x`, or a latent of it.
    fn narrowed(&self, layer: usize, name: &str, x: &Tensor) -> Latent {
        let (kernels, meter, hidden) = (&self.kernels, self.meter(), self.hidden());
        let weight = |part: &str| format!("layers.{layer}.self_attn.{name}_a_{part}");
        let rows = |part| {
            Some(weight(part))
                .filter(|name| self.has(name))
                .and_then(|name| self.tree.weights.get(&name))
                .and_then(|shape| shape.first())
                .map(|rows| *rows as u64)
        };
        let (Some(all), Some(width)) = (rows("proj"), rows("norm")) else {
            return Latent { x: x.clone(), width: hidden, part: "", beyond: None };
        };
        let tokens = x.elements / hidden.max(1);
        let down = kernels.linear(x, [hidden, all], self.has(&weight("proj.bias")));
        let beyond = (all > width).then(|| meter.view(&down, tokens * (all - width)));
        let own = meter.make(tokens * width, &[&down]);
        Latent { x: kernels.norm(&own, width, false), width, part: "_b", beyond }
    }

    /// The output projection, with each head's share of it where that is wanted.
    fn project_heads(&self, layer: usize, z: &Tensor, tap: &mut dyn Tap) -> Tensor {
        let (kernels, meter, site) = (&self.kernels, self.meter(), Site::Layer(layer, LayerSite::Heads));
        let LayerTree { heads, value_dim, .. } = self.tree.layers[layer];
        let (heads, value) = (heads as u64, value_dim as u64);
        let biased = self.has(&format!("layers.{layer}.self_attn.o_proj.bias"));
        let output = kernels.linear(z, [heads * value, self.hidden()], biased);
        if !tap.wants(site) {
            return output;
        }
        let share = |_| {
            let z = meter.view(z, z.elements / heads.max(1)).dense(heads == 1);
            let _weight = meter.hold(F32 * value * self.hidden());
            kernels.linear(&z, [value, self.hidden()], false)
        };
        let shares: Vec<Tensor> = (0..heads).map(share).collect();
        let all = meter.make(output.elements * heads, &shares.iter().collect::<Vec<_>>());
        drop(shares);
        let written = tap.visit(site, all.clone());
        if written.is(&all) {
            return output;
        }
        let differences = (meter.fresh(all.elements, 1), meter.fresh(all.elements, F32));
        drop(differences);
        let sum = meter.make(output.elements, &[&written]);
        let moved = meter.make(all.elements, &[&written, &all]);
        let moved = meter.make(output.elements, &[&output, &meter.make(output.elements, &[&moved])]);
        meter.make(output.elements, &[&sum, &moved])
    }

    fn feed_forward(&self, layer: usize, x: &Tensor, tap: &mut dyn Tap) -> Tensor {
        let LayerTree { mlp, experts, .. } = self.tree.layers[layer];
        match experts {
            Some(experts) => self.experts(layer, experts, x, tap),
            None => self.mlp(layer, "mlp", mlp.unwrap_or(0), x, tap),
        }
    }

    /// The MLP whose weights have this name and width.
    pub(super) fn mlp(&self, layer: usize, name: &str, width: usize, x: &Tensor, tap: &mut dyn Tap) -> Tensor {
        let (kernels, width) = (&self.kernels, width as u64);
        let at = |site| Site::Layer(layer, site);
        let biased = |part: &str| self.has(&format!("layers.{layer}.{name}.{part}.bias"));
        let project = |part: &str| kernels.linear(x, [self.hidden(), width], biased(part));
        let learned = self.has(&format!("layers.{layer}.{name}.act_fn.alpha_p"));
        let neurons = if self.tree.layers[layer].gate {
            let (gate, up) = (project("gate_proj"), project("up_proj"));
            let gate = offer(tap, at(LayerSite::Gate), gate);
            let up = offer(tap, at(LayerSite::Up), up);
            kernels.activate(&gate, Some(&up), learned)
        } else {
            let up = offer(tap, at(LayerSite::Up), project("up_proj"));
            kernels.activate(&up, None, learned)
        };
        let neurons = offer(tap, at(LayerSite::Neurons), neurons);
        let output = kernels.linear(&neurons, [width, self.hidden()], biased("down_proj"));
        offer(tap, at(LayerSite::MlpOutput), output)
    }

    fn final_norm(&self, x: &Tensor) -> Tensor {
        self.kernels.norm(x, self.hidden(), self.has("ln_final.bias"))
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.outputs(x, self.tree.vocab as u64)
    }

    fn outputs(&self, x: &Tensor, ids: u64) -> Tensor {
        self.kernels.linear(x, [self.hidden(), ids], self.has("lm_head.bias"))
    }

    /// The outputs of so many token ids, whose weights are copied, and laid out for the kernels.
    fn head_of(&self, x: &Tensor, ids: u64) -> Tensor {
        let panels = if self.kernels.plain { 0 } else { ids.next_multiple_of(PANEL) };
        let _weights = self.meter().hold(F32 * (ids + panels) * self.hidden());
        self.outputs(x, ids)
    }

    /// The unembedding, of so many of the rows from the final norm on, and of these token ids or all.
    pub(super) fn unembed(&self, x: Tensor, onward: u64, ids: Option<&[u32]>, tap: &mut dyn Tap) {
        let wanted_from = |tap: &dyn Tap, first| {
            [Site::LnFinalOutput, Site::LmHead, Site::Logits].into_iter().any(|site| site >= first && tap.wants(site))
        };
        let before = offer(tap, Site::LnFinalInput, x);
        if !wanted_from(tap, Site::LnFinalOutput) {
            return;
        }
        let x = offer(tap, Site::LnFinalOutput, self.final_norm(&before));
        if !wanted_from(tap, Site::LmHead) {
            return;
        }
        let elements = onward * self.hidden();
        let x = if elements == x.elements { x } else { self.meter().make(elements, &[&x]) };
        let raw = match ids {
            None => self.head(&x),
            Some(ids) => self.head_of(&x, ids.len() as u64),
        };
        let raw = offer(tap, Site::LmHead, raw);
        if wanted_from(tap, Site::Logits) {
            offer(tap, Site::Logits, raw);
        }
    }

    /// `lm_head(ln_final(x))`.
    pub(super) fn project_on_vocab(&self, x: &Tensor) -> Tensor {
        self.head(&self.final_norm(&self.meter().contiguous(x)))
    }

    /// A module applied to the tokens of whole sequences, packed.
    pub(super) fn call(&self, module: Module, x: &Tensor, lengths: &[usize]) -> Tensor {
        match module {
            Module::EmbedTokens => {
                let _ids = self.meter().hold(20 * x.elements);
                self.meter().fresh(x.elements * self.hidden(), F32)
            }
            Module::Layer(layer) => self.block(layer, x.clone(), &Through::whole(lengths), &mut NoTap),
            Module::SelfAttn(layer) => self.attention(layer, x, &Through::whole(lengths), &mut NoTap),
            Module::Mlp(layer) => self.feed_forward(layer, x, &mut NoTap),
            Module::Norm(layer, place) => self.norm(layer, place, x),
            Module::LnFinal => self.final_norm(x),
            Module::LmHead => self.head(x),
        }
    }
}
