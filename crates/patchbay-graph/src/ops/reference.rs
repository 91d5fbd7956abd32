//! The table as a page of Markdown.

use std::fmt::Write as _;

use super::{FAMILIES, Gradient, OpSpec, Outputs, Work};

/// The page `docs/ops.md`: every operation with its arguments, what it computes, its gradient and its price.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    for (family, specs) in FAMILIES {
        let _ = write!(
            page,
            "\n## {family}\n\n| operation | computes | outputs | gradient | operations |\n|---|---|---|---|---|\n"
        );
        for spec in *specs {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                calls(spec),
                spec.about.replace('|', "\\|"),
                outputs(spec),
                gradient(spec),
                work(spec)
            );
        }
    }
    page
}

/// Every way of giving the arguments by position.
fn calls(spec: &OpSpec) -> String {
    let mut calls = vec![format!("`{}`", spec.signature())];
    calls.extend(spec.forms.iter().map(|form| format!("`{}({})`", spec.name, form.join(", "))));
    calls.join("<br>")
}

fn outputs(spec: &OpSpec) -> String {
    match spec.outputs {
        Outputs::One => "one".into(),
        Outputs::Named(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Outputs::Numbered => "`0`, `1`, …".into(),
    }
}

fn gradient(spec: &OpSpec) -> &'static str {
    match spec.gradient {
        Gradient::Right => "yes",
        Gradient::Zero => "zero",
        Gradient::None => "none",
    }
}

fn work(spec: &OpSpec) -> String {
    match spec.work {
        Work::View => "0".into(),
        Work::Output(each) => format!("{each} an element of the result"),
        Work::Input(each) => format!("{each} an element of the input"),
        Work::Sort => "log₂ n an element of the input".into(),
        Work::Product => "2 a multiply-add".into(),
    }
}

const INTRODUCTION: &str = "\
# Tensor operations

This page is generated from the table in `crates/patchbay-graph/src/ops`; write it anew with
`cargo run -p patchbay-graph --example ops > docs/ops.md`.

Names, arguments, defaults, broadcasting and types are PyTorch's. Arguments stand in `args` in PyTorch's order, or in fields
of their own name: `{\"op\": \"softmax\", \"args\": [\"logits\", -1]}` is `{\"op\": \"softmax\", \"input\": \"logits\", \"dim\": -1}`.
`axis` is taken for `dim`, and `keepdims` for `keepdim`. Sizes are a list, or the last positional arguments one by one.
`cat` and `stack` take their tensors as one list, as PyTorch does, or as the positional arguments; `einsum` takes its
operands after the equation.

An operation with several outputs stands for its first one. `\"$id.indices\"` or `\"$id.1\"` name another; a node written in
place says `\"out\": \"indices\"`. Only outputs that something uses are computed.

Types: `bool u8 u32 i64 f16 bf16 f32 f64`. A plain number takes the type of the tensor that it meets; comparisons give
bool, indices are i64, sums of whole numbers are i64, and functions with real values make f32 of whole numbers. Half
precision is computed in f32 and rounded once. Whole numbers wrap around as in PyTorch; products of them are exact below
2^53. `matmul`, `einsum` and `dot` want one type, as PyTorch does.

Rows that differ in length are padded on the left with zeros, and padding never counts: a mean divides by real tokens, an
index along the token axis counts from a row's first real token, and padding in a result is zero. What has no meaning across
such rows is refused before anything runs.

An index that is written in the request is checked before anything runs; one that is computed can only be checked when it
is there, and then fails the request.

`gradient`: whether `grad` may go through it. Where it says zero the derivative is zero wherever there is one; where it says
none there is none, and `grad` refuses it. At ties and kinks gradients are PyTorch's: |x| and relu have slope 0 at 0, equal
ones share the gradient of a full `max` and go halves in `maximum`, what touches a bound of `clamp` gives its gradient to the
bound, a norm has slope 0 at 0.

`randn` draws element i of seed s from the SplitMix64 stream of s: the outputs number 2j and 2j + 1 (from 0) with j = ⌊i / 2⌋
make u = (⌊first / 2^11⌋ + 1) / 2^53 and v = ⌊second / 2^11⌋ / 2^53, and √(−2 ln u) · cos(2πv) for even i, sin for odd i.
";
