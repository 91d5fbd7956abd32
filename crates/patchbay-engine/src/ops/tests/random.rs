//! Random calls of every operation: what is planned can run, and has the shape and type that were planned.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use patchbay_graph::DType as GraphType;
use patchbay_graph::ops::{self, Kind, OpSpec, Outputs, Param};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::super::{Refused, host};
use super::{Shelf, plan, run};
use crate::values::candle_dtype;

/// How often each operation is called.
const CALLS: usize = 500;
/// How many of the calls must be right, so that the test means something.
const TAKEN: usize = 5;

const EQUATIONS: [&str; 9] =
    ["ij,jk->ik", "i,i", "ii->i", "ij->ji", "...ij,...kj->...ik", "bij,bjk", "i,j,k->", "ab,ab,ab->a", "i...->..."];

/// Types and sizes of tensors.
type Tensors = Vec<(GraphType, Vec<usize>)>;

/// A call, and the sizes and types of the tensors that it names.
#[derive(Clone, Debug)]
pub(super) struct RandomCall {
    pub(super) node: Value,
    tensors: Tensors,
}

fn dims() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1 => Just(0usize), 2 => Just(1), 9 => 2usize..4], 0..4)
}

/// Sizes that often fit `base`.
fn near(base: Vec<usize>) -> impl Strategy<Value = Vec<usize>> {
    let tail = base.len().saturating_sub(1);
    let mut swapped = base.clone();
    if base.len() > 1 {
        swapped.swap(base.len() - 1, base.len() - 2);
    }
    let without = |axis: usize| {
        let mut dims = base.clone();
        if axis < dims.len() {
            dims.remove(axis);
        }
        dims
    };
    prop_oneof![
        5 => Just(base.clone()),
        2 => Just(vec![]),
        2 => Just(swapped),
        1 => Just(base[tail..].to_vec()),
        1 => Just(without(0)),
        2 => Just(without(1)),
        1 => Just(vec![2]),
        1 => dims(),
    ]
}

fn dtype() -> impl Strategy<Value = GraphType> {
    prop_oneof![4 => Just(GraphType::F32), 3 => prop::sample::select(GraphType::ALL.to_vec()), 2 => Just(GraphType::I64), 1 => Just(GraphType::Bool)]
}

/// What stands for a parameter: a value, or a tensor for the name `@#`.
fn argument(param: &'static Param, rank: usize, base: Vec<usize>) -> BoxedStrategy<(Value, Tensors)> {
    let rank = rank as i64;
    let ints = prop::collection::vec(-2i64..4, 0..4);
    let plain = |value: BoxedStrategy<Value>| value.prop_map(|value| (value, Vec::new())).boxed();
    let tensor = || (dtype(), near(base.clone())).prop_map(|tensor| (json!("@#"), vec![tensor]));
    match param.kind {
        Kind::Tensor => prop_oneof![
            9 => tensor(),
            1 => (-3i64..4).prop_map(|x| (json!(x), Vec::new())),
            1 => (-3i64..4).prop_map(|x| (json!(x as f64 + 0.5), Vec::new())),
        ]
        .boxed(),
        Kind::Tensors => prop::collection::vec(tensor(), 1..4)
            .prop_map(|parts| {
                let tensors: Vec<_> = parts.iter().flat_map(|(_, tensors)| tensors.clone()).collect();
                (json!(vec!["@#"; tensors.len()]), tensors)
            })
            .boxed(),
        Kind::Axis => plain((-rank - 1..rank + 1).prop_map(|axis| json!(axis)).boxed()),
        Kind::Axes => plain(
            prop_oneof![
                (-rank..rank.max(1)).prop_map(|axis| json!(axis)),
                prop::collection::vec(-rank..rank.max(1), 0..3).prop_map(|axes| json!(axes)),
            ]
            .boxed(),
        ),
        Kind::Int => plain((-1i64..5).prop_map(|int| json!(int)).boxed()),
        Kind::Ints => {
            let all: i64 = base.iter().product::<usize>() as i64;
            plain(
                prop_oneof![
                    2 => Just(json!(base)),
                    1 => Just(json!([all])),
                    1 => Just(json!([-1])),
                    2 => Just((0..rank).rev().collect::<Vec<_>>()).prop_map(|order| json!(order)),
                    1 => Just(json!([&[2], &base[..]].concat())),
                    2 => ints.prop_map(|ints| json!(ints)),
                ]
                .boxed(),
            )
        }
        Kind::Sections => plain(prop_oneof![(0i64..4).prop_map(|n| json!(n)), ints.prop_map(|n| json!(n))].boxed()),
        Kind::Number | Kind::Scalar | Kind::Order => {
            let odd = prop_oneof![Just(json!("Infinity")), Just(json!("NaN")), Just(json!("-Infinity"))];
            plain(
                prop_oneof![4 => (-3i64..5).prop_map(|x| json!(x)), 4 => (-3.0..5.0).prop_map(|x| json!(x)), 1 => odd]
                    .boxed(),
            )
        }
        Kind::Flag => plain(any::<bool>().prop_map(|flag| json!(flag)).boxed()),
        Kind::Word(words) => plain(prop::sample::select(words).prop_map(|word| json!(word)).boxed()),
        Kind::Type => plain(dtype().prop_map(|dtype| json!(dtype)).boxed()),
        Kind::Text => plain(prop::sample::select(&EQUATIONS[..]).prop_map(|text| json!(text)).boxed()),
    }
}

fn call(spec: &'static OpSpec) -> impl Strategy<Value = RandomCall> {
    let given = |param: &'static Param, base: &Vec<usize>| {
        let argument = argument(param, base.len(), base.clone());
        match param.default {
            None => argument.prop_map(Some).boxed(),
            Some(_) => prop::option::weighted(0.4, argument).boxed(),
        }
    };
    dims().prop_flat_map(move |base| spec.params.iter().map(|param| given(param, &base)).collect::<Vec<_>>()).prop_map(
        move |values| {
            let mut node = json!({"op": spec.name});
            let mut tensors = Vec::new();
            for (param, value) in spec.params.iter().zip(values) {
                let Some((mut value, new)) = value else { continue };
                match &mut value {
                    Value::Array(items) if param.kind == Kind::Tensors => items
                        .iter_mut()
                        .enumerate()
                        .for_each(|(i, item)| *item = json!(format!("@t{}", tensors.len() + i))),
                    value if !new.is_empty() => *value = json!(format!("@t{}", tensors.len())),
                    _ => {}
                }
                tensors.extend(new);
                node[param.name] = value;
            }
            RandomCall { node, tensors }
        },
    )
}

pub(super) fn shelf(call: &RandomCall) -> Shelf {
    let mut shelf = Shelf::default();
    for (number, (dtype, dims)) in call.tensors.iter().enumerate() {
        let count: usize = dims.iter().product();
        let data: Vec<f64> = (0..count).map(|i| ((i * 7 + number * 3) % 11) as f64 * 0.5 - 1.0).collect();
        let tensor = match dtype.is_float() {
            true => {
                Tensor::from_vec(data, dims.as_slice(), &Device::Cpu).and_then(|t| t.to_dtype(candle_dtype(*dtype)))
            }
            false => host::of_ints(data.iter().map(|x| x.abs() as i64 % 2).collect(), dims, *dtype, &Device::Cpu),
        };
        shelf.put(&format!("t{number}"), *dtype, tensor.unwrap());
    }
    shelf
}

/// Runs every output of a call; whether it was planned.
fn try_call(spec: &OpSpec, call: &RandomCall) -> Result<bool, String> {
    let shelf = shelf(call);
    let outs: Vec<usize> = match spec.outputs {
        Outputs::One => vec![],
        Outputs::Named(names) => (0..names.len()).collect(),
        Outputs::Numbered => vec![0, 1],
    };
    let mut node = call.node.clone();
    node["id"] = json!("n");
    let mut graph = vec![node, json!({"op": "save", "value": "$n", "as": "own"})];
    let Ok(alone) = plan(&json!(graph), &shelf) else { return Ok(false) };
    graph.extend(outs.iter().map(|out| json!({"op": "save", "value": format!("$n.{out}"), "as": out.to_string()})));
    // with all outputs, where there are several
    let plan = plan(&json!(graph), &shelf).unwrap_or(alone);
    let values = match run(&plan, &shelf) {
        Ok(values) => values,
        Err(error) if Refused::find(&error).is_some() => return Ok(true),
        Err(error) => return Err(format!("{call:?} failed: {error}")),
    };
    for (value, tensor) in plan.values.iter().zip(&values) {
        if tensor.dims() != value.shape.dims || tensor.dtype() != candle_dtype(value.dtype) {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.dims());
            return Err(format!("{call:?} made {found}, planned was {} {}", value.dtype, value.shape));
        }
    }
    Ok(true)
}

/// Random calls of every operation, the same ones every time: what `check` counts of each.
pub(super) fn counted(
    check: impl Fn(&'static OpSpec, &RandomCall) -> Result<usize, String>,
) -> BTreeMap<&'static str, usize> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut counts, mut wrong) = (BTreeMap::new(), Vec::new());
    for spec in ops::all() {
        let strategy = call(spec);
        for _ in 0..CALLS {
            let call = strategy.new_tree(&mut runner).unwrap().current();
            match check(spec, &call) {
                Ok(count) => *counts.entry(spec.name).or_insert(0) += count,
                Err(problem) => {
                    wrong.push(problem);
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    counts
}

#[test]
fn what_is_planned_can_run() {
    let taken = counted(|spec, call| try_call(spec, call).map(usize::from));
    let rare: Vec<_> = taken.iter().filter(|(_, count)| **count < TAKEN).collect();
    assert!(rare.is_empty(), "hardly ever taken: {rare:?}");
}
