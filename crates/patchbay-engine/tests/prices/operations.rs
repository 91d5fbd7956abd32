//! What every operation holds on the way, against what it says.

use serde_json::{Value, json};

use crate::Prices;
use crate::measure::turn;
use crate::model::{Shelf, llama, rows};

/// Operations on a million numbers, with the arguments after the first.
fn nodes() -> Vec<Value> {
    let mut nodes = Vec::new();
    let elementwise = "neg abs sqrt rsqrt exp log sin cos tanh sigmoid relu gelu silu floor ceil round sign detach";
    for op in elementwise.split(' ') {
        nodes.push(json!({"op": op, "args": ["@a"]}));
    }
    for op in "add sub mul div pow maximum minimum eq lt logical_and logical_or".split(' ') {
        nodes.push(json!({"op": op, "args": ["@a", "@b"]}));
        nodes.push(json!({"op": op, "args": ["@a", "@r"]}));
        nodes.push(json!({"op": op, "args": ["@a", 2]}));
    }
    for op in "sum mean var std norm prod max min argmax argmin".split(' ') {
        nodes.push(json!({"op": op, "args": ["@a"], "dim": -1}));
        nodes.push(json!({"op": op, "args": ["@a"], "dim": 0}));
        nodes.push(json!({"op": op, "args": ["@a"]}));
    }
    for op in "cumsum softmax log_softmax logsumexp".split(' ') {
        nodes.push(json!({"op": op, "args": ["@a"], "dim": -1}));
        nodes.push(json!({"op": op, "args": ["@a"], "dim": 0}));
    }
    for equation in ["ij,kj->ik", "ji,kj->ki", "ij,ij->ij", "ij,ij->", "ij,jk,kl->il"] {
        let operands = ["@a", "@b", "@a"];
        let count = equation.split("->").next().unwrap().split(',').count();
        let args: Vec<&str> = std::iter::once(equation).chain(operands.into_iter().take(count)).collect();
        nodes.push(json!({"op": "einsum", "args": args}));
    }
    nodes.extend(others());
    nodes
}

fn others() -> Vec<Value> {
    let mask = json!({"op": "gt", "args": ["@a", 0]});
    let whole = json!({"op": "cast", "args": ["@a"], "dtype": "i64"});
    let classes = json!({"op": "arange", "args": [1000]});
    let index = json!({"op": "zeros", "args": [1000, 1000], "dtype": "i64"});
    vec![
        json!({"op": "clamp", "args": ["@a"], "min": 0}),
        json!({"op": "add", "args": ["@a", "@b"], "alpha": 2}),
        json!({"op": "div", "args": ["@a", "@b"], "rounding_mode": "floor"}),
        json!({"op": "div", "args": ["@a", "@b"], "rounding_mode": "trunc"}),
        json!({"op": "logical_not", "args": ["@a"]}),
        json!({"op": "where", "args": [mask, "@a", "@b"]}),
        json!({"op": "masked_fill", "args": ["@a", mask, 0.0]}),
        json!({"op": "max", "args": ["@a", "@b"]}),
        json!({"op": "topk", "args": ["@a"], "k": 10}),
        json!({"op": "sort", "args": ["@a"]}),
        json!({"op": "matmul", "args": ["@a", "@b"]}),
        json!({"op": "dot", "args": ["@v", "@v"]}),
        json!({"op": "outer", "args": ["@r", "@r"]}),
        json!({"op": "cosine_similarity", "args": ["@a", "@b"], "dim": -1}),
        json!({"op": "cross_entropy", "args": ["@a", classes]}),
        json!({"op": "cross_entropy", "args": ["@a", "@b"], "reduction": "none"}),
        json!({"op": "kl_div", "args": ["@a", "@b"]}),
        json!({"op": "kl_div", "args": ["@a", "@b"], "reduction": "none"}),
        json!({"op": "reshape", "args": ["@a", [500, 2000]]}),
        json!({"op": "reshape", "args": [{"op": "transpose", "args": ["@a", 0, 1]}, [500, 2000]]}),
        json!({"op": "transpose", "args": ["@a", 0, 1]}),
        json!({"op": "permute", "args": ["@a", [1, 0]]}),
        json!({"op": "unsqueeze", "args": ["@a", 0]}),
        json!({"op": "expand", "args": ["@r", [1000, 1000]]}),
        json!({"op": "repeat", "args": ["@r", [1000, 1]]}),
        json!({"op": "flip", "args": ["@a", [0]]}),
        json!({"op": "cat", "args": [["@a", "@b"]]}),
        json!({"op": "stack", "args": [["@a", "@b"]], "dim": 1}),
        json!({"op": "split", "args": ["@a", 500], "dim": 1}),
        json!({"op": "tril", "args": ["@a"]}),
        json!({"op": "index_select", "args": ["@a", 0, classes]}),
        json!({"op": "gather", "args": ["@a", 1, index]}),
        json!({"op": "scatter_add", "args": ["@a", 1, index, "@b"]}),
        json!({"op": "one_hot", "args": [classes, 1000]}),
        json!({"op": "full", "args": [[1000, 1000], 2.5]}),
        json!({"op": "eye", "args": [1000]}),
        json!({"op": "arange", "args": [0, 1_000_000]}),
        json!({"op": "arange", "args": [0, 1_000_000], "dtype": "f32"}),
        json!({"op": "randn", "args": [1000, 1000], "seed": 1}),
        json!({"op": "cast", "args": ["@a"], "dtype": "f16"}),
        json!({"op": "cast", "args": ["@a"], "dtype": "f32"}),
        json!({"op": "add", "args": [whole, whole]}),
        json!({"op": "sum", "args": [whole]}),
        json!({"op": "matmul", "args": [whole, whole]}),
        whole,
        json!("@a[::2]"),
        json!("@a[:, ::2]"),
    ]
}

#[test]
fn operations() {
    let _turn = turn();
    let mut prices = Prices::new(llama());
    let square: &[usize] = &[1000, 1000];
    prices.shelf = Shelf::default().with("a", square).with("b", square).with("v", &[1_000_000]).with("r", &[1000]);
    for node in nodes() {
        let name = node.to_string();
        prices.trace(&name, rows(&[3]), json!([{"op": "save", "value": node, "as": "x"}]));
    }
    prices.check();
}
