//! Rows that differ in length: each row of a result is what the row alone gives, and padding is zero.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use patchbay_graph::ops::{Arg, Attr, Attrs, Given, OpSpec, Typed};
use patchbay_graph::shape::Ragged;
use patchbay_graph::{DType as GraphType, Problem, Shape};

use super::super::{Call, Input};
use super::elements;
use crate::ragged::fill_padding;

const LENGTHS: [usize; 3] = [2, 4, 1];

type Arguments = Vec<(&'static str, Attr)>;

fn axis(axis: i64) -> (&'static str, Attr) {
    ("dim", Attr::Axes(vec![axis]))
}

/// A shape of three rows whose axes `tokens` are ragged.
fn ragged(dims: &[usize], tokens: &[usize]) -> Shape {
    let lengths: Arc<[usize]> = LENGTHS.into();
    let axes = tokens.iter().map(|axis| (*axis, Arc::clone(&lengths))).collect();
    Shape { dims: dims.to_vec(), ragged: Some(Ragged { rows: 0, axes }) }
}

fn tensor(shape: &Shape, seed: usize) -> Tensor {
    let count = shape.elements().unwrap();
    let data: Vec<f32> = (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 * 0.25 - 2.0).collect();
    let dense = Tensor::from_vec(data, shape.dims.as_slice(), &Device::Cpu).unwrap();
    fill_padding(&dense, shape, 0.0).unwrap()
}

fn params(spec: &'static OpSpec, count: usize) -> Vec<&'static str> {
    let name = |i: usize| spec.params[i.min(spec.params.len() - 1)].name;
    match spec.name {
        "einsum" => vec!["operands"; count],
        "cat" | "stack" => vec!["tensors"; count],
        "gather" => vec!["input", "index"],
        _ => (0..count).map(name).collect(),
    }
}

fn plan(
    spec: &'static OpSpec,
    args: &[(Shape, GraphType)],
    attrs: &Arguments,
) -> std::result::Result<Vec<Typed>, Problem> {
    let names = params(spec, args.len());
    let args: Vec<Arg<'_>> = args
        .iter()
        .zip(names)
        .map(|((shape, dtype), name)| Arg { name, shape, dtype: *dtype, weak: false, literal: None })
        .collect();
    spec.infer(&Given { spec, args: &args, attrs: Attrs(attrs) })
}

/// Every output.
fn run(spec: &'static OpSpec, args: &[(Shape, GraphType, Tensor)], attrs: &Arguments) -> Result<Vec<(Shape, Tensor)>> {
    let shapes: Vec<_> = args.iter().map(|(shape, dtype, _)| (shape.clone(), *dtype)).collect();
    let outs = plan(spec, &shapes, attrs).map_err(candle_core::Error::wrap)?;
    let output = |(out, (shape, dtype)): (usize, (Shape, GraphType))| {
        let named = args.iter().zip(params(spec, args.len()));
        let inputs = named
            .map(|((shape, dtype, tensor), name)| Input {
                name,
                shape,
                dtype: *dtype,
                weak: false,
                tensor: tensor.clone(),
            })
            .collect();
        let call = Call { spec, attrs: Attrs(attrs), inputs, out, shape: &shape, dtype, device: &Device::Cpu };
        let tensor = call.run()?;
        Ok((shape, tensor))
    };
    outs.into_iter().enumerate().map(output).collect()
}

/// One row of a tensor whose first axis is that of rows, with its own tokens only.
fn row(shape: &Shape, tensor: &Tensor, row: usize) -> (Shape, Tensor) {
    let mut tensor = tensor.narrow(0, row, 1).unwrap();
    for (axis, lengths) in shape.ragged.iter().flat_map(|ragged| &ragged.axes) {
        tensor = tensor.narrow(*axis, shape.dims[*axis] - lengths[row], lengths[row]).unwrap();
    }
    (Shape::dense(tensor.dims().to_vec()), tensor.contiguous().unwrap())
}

fn close(found: &[f64], expected: &[f64]) -> bool {
    let same = |a: &f64, b: &f64| (a - b).abs() < 1e-5 || a == b || (a.is_nan() && b.is_nan());
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b))
}

/// Arguments for an operation; those after the first of `gather` are indices.
struct Arranged {
    name: &'static str,
    attrs: Arguments,
    args: Vec<(Shape, GraphType, Tensor)>,
    vars: Vec<Var>,
}

impl Arranged {
    fn new(name: &'static str, attrs: &Arguments, tensors: Vec<(Shape, Tensor)>) -> Self {
        let vars: Vec<Var> = tensors.iter().map(|(_, tensor)| Var::from_tensor(tensor).unwrap()).collect();
        let arg = |(i, (shape, tensor)): (usize, (Shape, Tensor))| match name == "gather" && i == 1 {
            true => (
                shape,
                GraphType::I64,
                (tensor.abs().unwrap() * 0.5).and_then(|t| t.floor()?.to_dtype(DType::I64)).unwrap(),
            ),
            false => (shape, GraphType::F32, vars[i].as_tensor().clone()),
        };
        let args = tensors.into_iter().enumerate().map(arg).collect();
        Self { name, attrs: attrs.clone(), args, vars }
    }

    /// Every output, and the gradients of the sum of the squares of the first.
    fn run(&self) -> (Vec<(Shape, Tensor)>, Vec<Option<Tensor>>) {
        let spec = OpSpec::find(self.name).unwrap();
        let outs = run(spec, &self.args, &self.attrs).unwrap_or_else(|e| panic!("{} {:?}: {e}", self.name, self.attrs));
        let first = &outs[0].1;
        let grads = match first.dtype() == DType::F32 {
            true => {
                let grads = first.sqr().and_then(|square| square.sum_all()?.backward()).unwrap();
                self.vars.iter().map(|var| grads.get(var.as_tensor()).cloned()).collect()
            }
            false => vec![None; self.vars.len()],
        };
        (outs, grads)
    }
}

/// Each row of the result and of the gradients is that of the row alone, and padding is zero.
#[track_caller]
fn each_row_is_the_row_alone(name: &'static str, shapes: &[&Shape], attrs: &Arguments) {
    let seeds = shapes.iter().enumerate().map(|(i, shape)| ((*shape).clone(), tensor(shape, i)));
    let together = Arranged::new(name, attrs, seeds.collect());
    let (outs, grads) = together.run();
    for number in 0..LENGTHS.len() {
        let alone = together.args.iter().zip(&together.vars).map(|((shape, ..), var)| row(shape, var, number));
        let (expected, expected_grads) = Arranged::new(name, attrs, alone.collect()).run();
        for ((shape, tensor), (_, expected)) in outs.iter().zip(&expected) {
            let (found, expected) = (elements(&row(shape, tensor, number).1), elements(expected));
            assert!(close(&found, &expected), "{name} {attrs:?} row {number}: {found:?}, alone {expected:?}");
        }
        for (((shape, ..), found), expected) in together.args.iter().zip(&grads).zip(&expected_grads) {
            let (Some(found), Some(expected)) = (found, expected) else { continue };
            let (found, expected) = (elements(&row(shape, found, number).1), elements(expected));
            assert!(
                close(&found, &expected),
                "gradient of {name} {attrs:?} row {number}: {found:?}, alone {expected:?}"
            );
        }
    }
    for (shape, tensor) in &outs {
        let clean = fill_padding(tensor, shape, 0.0).unwrap();
        assert_eq!(elements(tensor), elements(&clean), "{name} {attrs:?}: padding is zero");
    }
}

#[test]
fn operations_along_tokens_and_beside_them() {
    let states = ragged(&[3, 4, 3], &[1]);
    let flag = |name: &'static str| (name, Attr::Flag(true));
    for dim in [1, -1] {
        for name in ["sum", "mean", "norm", "prod", "max", "min", "argmax", "argmin", "logsumexp"] {
            each_row_is_the_row_alone(name, &[&states], &vec![axis(dim)]);
            each_row_is_the_row_alone(name, &[&states], &vec![axis(dim), flag("keepdim")]);
        }
        for name in ["softmax", "log_softmax", "cumsum", "sort"] {
            each_row_is_the_row_alone(name, &[&states], &vec![axis(dim)]);
        }
        for p in [0.0, 1.0, 3.0, f64::INFINITY] {
            each_row_is_the_row_alone("norm", &[&states], &vec![("p", Attr::Number(p)), axis(dim)]);
        }
        each_row_is_the_row_alone("var", &[&states], &vec![axis(dim), ("correction", Attr::Int(0))]);
        each_row_is_the_row_alone("topk", &[&states], &vec![("k", Attr::Int(1)), axis(dim)]);
        each_row_is_the_row_alone("sort", &[&states], &vec![axis(dim), flag("descending")]);
    }
    let both = vec![("dim", Attr::Axes(vec![1, 2]))];
    for name in ["sum", "mean", "norm", "logsumexp"] {
        each_row_is_the_row_alone(name, &[&states], &both);
    }
    each_row_is_the_row_alone("std", &[&states], &vec![axis(-1)]);
}

#[test]
fn operations_on_attention() {
    let probs = ragged(&[3, 2, 4, 4], &[2, 3]);
    for dim in [-1, -2] {
        for name in ["sum", "mean", "max", "argmax", "softmax", "cumsum", "sort", "logsumexp"] {
            each_row_is_the_row_alone(name, &[&probs], &vec![axis(dim)]);
        }
    }
    for (name, diagonal) in [("tril", 0), ("tril", -1), ("triu", 1)] {
        each_row_is_the_row_alone(name, &[&probs], &vec![("diagonal", Attr::Int(diagonal))]);
    }
    each_row_is_the_row_alone(
        "transpose",
        &[&probs],
        &vec![("dim0", Attr::Axes(vec![1])), ("dim1", Attr::Axes(vec![-1]))],
    );
    each_row_is_the_row_alone("matmul", &[&probs, &ragged(&[3, 2, 4, 5], &[2])], &vec![]);
}

#[test]
fn products_and_layouts() {
    let (states, wide) = (ragged(&[3, 4, 3], &[1]), ragged(&[3, 4, 5], &[1]));
    let equation = |text: &str| vec![("equation", Attr::Text(text.into()))];
    for text in ["bsd,btd->bst", "bsd,bsd->bs", "bsd,bsd->b", "bsd,btd->bds", "bsd,bsd->bsd", "bsd,bte->bdste"] {
        each_row_is_the_row_alone("einsum", &[&states, &states], &equation(text));
    }
    for text in ["bsd,bse->bde", "bsd,bse->bsde"] {
        each_row_is_the_row_alone("einsum", &[&states, &wide], &equation(text));
    }
    each_row_is_the_row_alone("exp", &[&states], &vec![]);
    each_row_is_the_row_alone("sub", &[&states, &states], &vec![]);
    each_row_is_the_row_alone("cosine_similarity", &[&states, &states], &vec![axis(-1)]);
    each_row_is_the_row_alone("unsqueeze", &[&states], &vec![axis(1)]);
    each_row_is_the_row_alone("flip", &[&states], &vec![("dims", Attr::Ints(vec![-1]))]);
    each_row_is_the_row_alone("cat", &[&states, &wide], &vec![axis(-1)]);
    each_row_is_the_row_alone("stack", &[&states, &states], &vec![axis(2)]);
    each_row_is_the_row_alone("gather", &[&states, &ragged(&[3, 4, 2], &[1])], &vec![axis(2)]);
}

/// Folds over rows and tokens are folds over the real tokens of all rows.
#[test]
fn folds_over_everything() {
    let shape = ragged(&[3, 4, 3], &[1]);
    let all = tensor(&shape, 3);
    let real: Vec<Tensor> =
        (0..LENGTHS.len()).map(|number| row(&shape, &all, number).1.flatten_all().unwrap()).collect();
    let real = Tensor::cat(&real, 0).unwrap();
    for name in ["sum", "mean", "var", "std", "norm", "prod", "max", "min"] {
        let spec = OpSpec::find(name).unwrap();
        let found = run(spec, &[(shape.clone(), GraphType::F32, all.clone())], &vec![]).unwrap();
        let dense = Shape::dense(real.dims().to_vec());
        let expected = run(spec, &[(dense, GraphType::F32, real.clone())], &vec![]).unwrap();
        assert!(close(&elements(&found[0].1), &elements(&expected[0].1)), "{name}");
        let count = |found: &Tensor| found.to_dtype(DType::I64).unwrap();
        let whole = [(shape.clone(), GraphType::I64, count(&all))];
        if matches!(name, "sum" | "prod" | "max" | "min") {
            let expected =
                run(spec, &[(Shape::dense(real.dims().to_vec()), GraphType::I64, count(&real))], &vec![]).unwrap();
            assert_eq!(elements(&run(spec, &whole, &vec![]).unwrap()[0].1), elements(&expected[0].1), "{name} of i64");
        }
    }
}

#[test]
fn what_would_mix_padding_in_is_refused() {
    let states = ragged(&[3, 4, 3], &[1]);
    let dense = Shape::dense([3, 4, 3]);
    let ints = |name: &'static str, ints: &[i64]| vec![(name, Attr::Ints(ints.to_vec()))];
    let cases: Vec<(&str, Vec<&Shape>, Arguments)> = vec![
        ("flip", vec![&states], ints("dims", &[1])),
        ("reshape", vec![&states], ints("shape", &[12, 3])),
        ("reshape", vec![&states], ints("shape", &[3, 12])),
        ("sort", vec![&states], vec![axis(0)]),
        ("cumsum", vec![&states], vec![axis(0)]),
        ("sum", vec![&states], vec![axis(0)]),
        ("max", vec![&states], vec![axis(0)]),
        ("argmax", vec![&states], vec![]),
        ("topk", vec![&states], vec![("k", Attr::Int(2)), axis(1)]),
        ("cat", vec![&states, &states], vec![axis(1)]),
        ("stack", vec![&states, &dense], vec![]),
        ("repeat", vec![&states], ints("repeats", &[1, 2, 1])),
        ("split", vec![&states], vec![("split_size_or_sections", Attr::Int(1)), axis(1)]),
        ("add", vec![&states, &dense], vec![]),
        ("gather", vec![&states, &dense], vec![axis(2)]),
    ];
    for (name, shapes, attrs) in cases {
        let typed: Vec<_> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                ((*shape).clone(), if name == "gather" && i == 1 { GraphType::I64 } else { GraphType::F32 })
            })
            .collect();
        let planned = plan(OpSpec::find(name).unwrap(), &typed, &attrs);
        assert!(planned.is_err_and(|problem| problem.hint.is_some()), "{name} {attrs:?}");
    }
}
