//! Granite 3 with experts (IBM 2024): Granite's multipliers, and the experts of a block in two stored tensors.

use patchbay_checkpoint::{CheckpointError, Config};

use super::experts::{Sizes, mixture, with_experts};
use super::granite::granite;
use super::llama::fused_gate_up;
use crate::spec::{LinearSpec, MlpSpec, RouterSpec, Spec, Stack};

/// `model_type` "granitemoe".
pub(super) fn granitemoe(config: &Config) -> Result<Spec, CheckpointError> {
    let (counts, choices) = (&["num_local_experts"], &["num_experts_per_tok"]);
    let sizes = Sizes::read(config, (counts, 8), (choices, 2), "intermediate_size")?;
    let make = |layer, mlp: MlpSpec| {
        let name = |part: &str| format!("model.layers.{layer}.block_sparse_moe.{part}");
        let projection = LinearSpec::plain(&name("router.layer"), mlp.up.input, sizes.count, false);
        let expert = |index| stacked(&mlp, Stack { count: sizes.count, index, joined: false }, name);
        let experts = (0..sizes.count).map(expert).collect();
        mixture(RouterSpec::softmax(projection, sizes.chosen), experts)
    };
    Ok(with_experts(granite(config)?, |_| true, make))
}

/// One expert of a stack: gate and up projection side by side, and the down projection.
fn stacked(like: &MlpSpec, stack: Stack, name: impl Fn(&str) -> String) -> MlpSpec {
    let of_stack = |linear| LinearSpec { stack: Some(stack), ..linear };
    let MlpSpec { width, gate, up, .. } = fused_gate_up(like.clone(), &name("input_linear"));
    let down = LinearSpec::plain(&name("output_linear"), width, like.up.input, false);
    MlpSpec { gate: gate.map(of_stack), up: of_stack(up), down: of_stack(down), ..like.clone() }
}
