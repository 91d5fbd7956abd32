//! Random operations on a value of known sizes.

use serde_json::{Value, json};

use super::generate::Keeps;
use crate::common::Random;

/// An operation, and the sizes of its result.
pub(crate) struct Made {
    pub(crate) value: Value,
    pub(crate) dims: Option<Vec<usize>>,
    pub(crate) keeps: Keeps,
}

const EACH: [&str; 16] = [
    "neg", "abs", "sin", "cos", "tanh", "sigmoid", "relu", "gelu", "silu", "floor", "ceil", "round", "sign", "exp",
    "detach", "log",
];

fn made(value: Value, dims: Option<Vec<usize>>, keeps: Keeps) -> Made {
    Made { value, dims, keeps }
}

/// An operation that does the same to every row, and nothing along rows or tokens. Sizes are unknown where rows differ.
pub(crate) fn row_by_row(random: &mut Random, x: &Value, dims: Option<&[usize]>) -> Made {
    let same = dims.map(<[usize]>::to_vec);
    let value = match random.below(6) {
        0 => json!({"op": "add", "args": [x, {"op": "mul", "args": [x, 0.5]}]}),
        1 => json!({"op": "clamp", "args": [x], "min": -1.0, "max": 1.5}),
        2 => json!({"op": "where", "args": [{"op": "gt", "args": [x, 0]}, x, 0.5]}),
        3 => json!({"op": "cast", "args": [x, "f16"]}),
        _ => json!({"op": random.of(&EACH), "args": [x]}),
    };
    made(value, same, Keeps::Form)
}

/// Any operation on a value of these sizes.
pub(crate) fn dense(random: &mut Random, x: &Value, dims: &[usize]) -> Made {
    let rank = dims.len();
    if rank == 0 || random.once_in(4) {
        return row_by_row(random, x, Some(dims));
    }
    let axis = random.below(rank);
    let size = dims[axis];
    let dim = if random.once_in(2) { axis as i64 } else { axis as i64 - rank as i64 };
    let with = |size: Option<usize>| {
        let mut dims = dims.to_vec();
        match size {
            Some(size) => dims[axis] = size,
            None => drop(dims.remove(axis)),
        }
        Some(dims)
    };
    let same = Some(dims.to_vec());
    let all = dims.iter().product::<usize>();
    match random.below(25) {
        0 => {
            let op = *random.of(&["sum", "mean", "prod", "logsumexp", "norm"]);
            made(reduced(op, x, dim), with(None), Keeps::Float)
        }
        1 => made(json!({"op": "sum", "args": [x], "dim": dim, "keepdim": true}), with(Some(1)), Keeps::Float),
        2 => made(json!({"op": "mean", "args": [x]}), Some(vec![]), Keeps::Float),
        3 => made(json!({"op": *random.of(&["max", "min"]), "args": [x, dim]}), with(None), Keeps::Float),
        4 => made(json!({"op": *random.of(&["argmax", "argmin"]), "args": [x, dim]}), with(None), Keeps::Nothing),
        5 => {
            let op = *random.of(&["softmax", "log_softmax", "cumsum"]);
            made(json!({"op": op, "args": [x], "dim": dim}), same, Keeps::Form)
        }
        6 => {
            let k = 1 + random.below(size);
            let out = *random.of(&["values", "indices"]);
            let keeps = if out == "values" { Keeps::Float } else { Keeps::Nothing };
            made(
                json!({"op": "topk", "args": [x, k, dim], "largest": random.once_in(2), "out": out}),
                with(Some(k)),
                keeps,
            )
        }
        7 => made(json!({"op": "sort", "args": [x], "dim": dim, "descending": random.once_in(2)}), same, Keeps::Form),
        8 => made(json!({"op": "flip", "args": [x, dim]}), same, Keeps::Form),
        9 => made(json!({"op": "reshape", "args": [x, -1]}), Some(vec![all]), Keeps::Float),
        10 => made(json!({"op": "unsqueeze", "args": [x, 0]}), Some([&[1], dims].concat()), Keeps::Float),
        11 => {
            let order: Vec<usize> = (0..rank).rev().collect();
            made(json!({"op": "permute", "args": [x, order]}), Some(dims.iter().rev().copied().collect()), Keeps::Float)
        }
        12 => made(json!({"op": "cat", "args": [[x, x]], "dim": dim}), with(Some(2 * size)), Keeps::Float),
        13 => made(json!({"op": "stack", "args": [x, x]}), Some([&[2], dims].concat()), Keeps::Float),
        14 => {
            let list = [random.below(size), random.below(size), size - 1];
            made(json!({"op": "index_select", "args": [x, dim, list]}), with(Some(3)), Keeps::Float)
        }
        15 => {
            let first = 1 + random.below(size);
            let sections = if first == size { json!([size]) } else { json!([first, size - first]) };
            made(json!({"op": "split", "args": [x, sections], "dim": dim, "out": 0}), with(Some(first)), Keeps::Float)
        }
        16 => {
            let wide = [&[3], dims].concat();
            made(json!({"op": "expand", "args": [x, wide]}), Some(wide.clone()), Keeps::Float)
        }
        17 => {
            let mut times = vec![1; rank];
            times[axis] = 2;
            made(json!({"op": "repeat", "args": [x, times]}), with(Some(2 * size)), Keeps::Float)
        }
        18 if rank >= 2 => made(json!({"op": "tril", "args": [x]}), same, Keeps::Form),
        19 if rank == 2 => {
            made(json!({"op": "einsum", "args": ["ij,kj->ik", x, x]}), Some(vec![dims[0], dims[0]]), Keeps::Float)
        }
        20 if rank == 2 => {
            let transposed = json!({"op": "transpose", "args": [x, 0, 1]});
            made(json!({"op": "matmul", "args": [transposed, x]}), Some(vec![dims[1], dims[1]]), Keeps::Float)
        }
        21 if rank == 2 => {
            let classes: Vec<usize> = (0..dims[0]).map(|_| random.below(dims[1])).collect();
            made(
                json!({"op": "cross_entropy", "args": [x, classes], "reduction": "none"}),
                Some(vec![dims[0]]),
                Keeps::Float,
            )
        }
        22 if rank == 1 => made(json!({"op": "dot", "args": [x, x]}), Some(vec![]), Keeps::Float),
        23 => made(json!({"op": "cosine_similarity", "args": [x, x], "dim": dim}), with(None), Keeps::Float),
        _ => {
            let dtype = *random.of(&["f64", "f16", "bf16", "i64", "bool"]);
            made(json!({"op": "cast", "args": [x, dtype]}), same, Keeps::Nothing)
        }
    }
}

fn reduced(op: &str, x: &Value, dim: i64) -> Value {
    json!({"op": op, "args": [x], "dim": dim})
}
