//! What the types with a mixture of experts have in common.

use patchbay_checkpoint::{CheckpointError, Config};

use super::llama::each_layer;
use super::settings::{size, size_of};
use crate::spec::{
    FeedForward, GroupScore, Groups, LayerSpec, LinearSpec, MlpSpec, MoeSpec, RouterSpec, SharedSpec, Spec, Weighed,
};

type Result<T> = std::result::Result<T, CheckpointError>;

/// No model has more experts in a block, by far.
const MOST: usize = 1024;

/// How many experts there are, how many of them a token goes through, and how wide they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) count: usize,
    pub(super) chosen: usize,
    pub(super) width: usize,
}

impl Sizes {
    /// Read from these keys, each with its default: the first key that is there counts.
    pub(super) fn read(
        config: &Config,
        count: (&[&str], usize),
        chosen: (&[&str], usize),
        width: &str,
    ) -> Result<Self> {
        let (count_key, count) = size_of(config, count.0, count.1)?;
        if count > MOST {
            return Err(config.wrong(count_key, &format!("a whole number from 1 to {MOST}")));
        }
        let (chosen_key, chosen) = size_of(config, chosen.0, chosen.1)?;
        if chosen > count {
            return Err(config.wrong(chosen_key, &format!("at most the number of experts, {count}")));
        }
        Ok(Self { count, chosen, width: size(config, width)? })
    }

    /// Groups of experts, from `n_group` and `topk_group` or what the type takes for them.
    pub(super) fn groups(&self, config: &Config, default: (usize, usize), score: GroupScore) -> Result<Option<Groups>> {
        let (_, count) = size_of(config, &["n_group"], default.0)?;
        let (_, chosen) = size_of(config, &["topk_group"], default.1)?;
        if count == 1 {
            return Ok(None);
        }
        let least = if score == GroupScore::TwoBest { 2 } else { 1 };
        if !self.count.is_multiple_of(count) || self.count / count < least {
            let expected =
                format!("a divisor of the number of experts, {}, that leaves at least {least} to a group", self.count);
            return Err(config.wrong("n_group", &expected));
        }
        if chosen > count || chosen * (self.count / count) < self.chosen {
            let expected = format!("from 1 to {count}, with at least {} experts in these groups", self.chosen);
            return Err(config.wrong("topk_group", &expected));
        }
        Ok(Some(Groups { count, chosen, score }))
    }
}

/// A gated MLP of this width, and else like another.
pub(super) fn gated(like: &MlpSpec, name: &str, [gate, up, down]: [&str; 3], width: usize, bias: bool) -> MlpSpec {
    let hidden = like.up.input;
    let linear = |part, input, output| LinearSpec::plain(&format!("{name}.{part}"), input, output, bias);
    MlpSpec {
        width,
        gate: Some(linear(gate, hidden, width)),
        up: linear(up, hidden, width),
        down: linear(down, width, hidden),
        ..like.clone()
    }
}

/// What the projections of an MLP are mostly called.
pub(super) const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// The expert that every token goes through, stored as `name.gate_proj` and so on.
pub(super) fn shared(like: &MlpSpec, name: &str, width: usize, bias: bool) -> SharedSpec {
    SharedSpec { mlp: gated(like, name, PROJECTIONS, width, bias), gate: None }
}

/// Experts named as most types name them, in `model.layers.N.mlp`.
pub(super) fn plain(like: &MlpSpec, layer: usize, sizes: Sizes) -> MoeSpec {
    apart(like, &format!("model.layers.{layer}.mlp"), sizes, PROJECTIONS)
}

/// The router `name.gate`, and experts stored one by one as `name.experts.N.part`, where `parts` are gate, up and down projection.
pub(super) fn apart(like: &MlpSpec, name: &str, sizes: Sizes, parts: [&str; 3]) -> MoeSpec {
    let Sizes { count, chosen, width } = sizes;
    let projection = LinearSpec::plain(&format!("{name}.gate"), like.up.input, count, false);
    let expert = |number| gated(like, &format!("{name}.experts.{number}"), parts, width, false);
    mixture(RouterSpec::softmax(projection, chosen), (0..count).map(expert).collect())
}

/// The commonest mixture of these experts.
pub(super) fn mixture(router: RouterSpec, experts: Vec<MlpSpec>) -> MoeSpec {
    MoeSpec { router, experts, shared: None, weighed: Weighed::Output }
}

/// The decoder with experts in some blocks, made of the block's number and the MLP that it would have.
pub(super) fn with_experts(
    spec: Spec,
    has_experts: impl Fn(usize) -> bool,
    make: impl Fn(usize, MlpSpec) -> MoeSpec,
) -> Spec {
    each_layer(spec, |(index, layer)| {
        let mlp = match layer.mlp {
            FeedForward::Mlp(mlp) if has_experts(index) => make(index, *mlp).into(),
            mlp => mlp,
        };
        LayerSpec { mlp, ..layer }
    })
}
