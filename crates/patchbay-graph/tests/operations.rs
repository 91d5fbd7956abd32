//! Tensor operations in a graph: how arguments are given, which outputs are made, what is refused.

mod common;

use common::plan;
use patchbay_graph::ops::{self, Op};
use patchbay_graph::plan::{Plan, Source};
use patchbay_graph::{Code, DType, Problem};
use serde_json::{Value, json};

fn save(value: Value) -> Value {
    json!([{"op": "save", "value": value, "as": "x"}])
}

/// Shape and type of a value.
#[track_caller]
fn typed(value: Value) -> (Vec<usize>, DType) {
    let plan = plan(save(value)).unwrap_or_else(|problem| panic!("{problem}"));
    let value = &plan.values[plan.results[0].value];
    (value.shape.dims.clone(), value.dtype)
}

#[track_caller]
fn refused(graph: Value, code: Code, pointer: &str, hint: &str) {
    let problem = plan(graph).expect_err("it is refused");
    assert_eq!((problem.code, problem.pointer.as_str()), (code, pointer), "{problem}");
    assert!(problem.hint.as_deref().unwrap_or("").contains(hint), "{problem}: the hint has no {hint:?}");
}

fn operations(plan: &Plan) -> Vec<(Op, usize)> {
    let op = |source: &Source| match source {
        Source::Op { spec, out, .. } => Some((spec.op, *out)),
        _ => None,
    };
    plan.values.iter().filter_map(|value| op(&value.source)).collect()
}

#[test]
fn arguments_stand_as_in_pytorch() {
    let grid = json!([[1.5, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let dims = |value: Value| typed(value).0;
    for sizes in [json!([grid, 3, 2]), json!([grid, [3, 2]]), json!([grid, 3, -1])] {
        assert_eq!(dims(json!({"op": "reshape", "args": sizes})), [3, 2]);
    }
    assert_eq!(dims(json!({"op": "reshape", "input": grid, "shape": [6]})), [6]);
    assert_eq!(dims(json!({"op": "zeros", "args": [2, 3]})), [2, 3]);
    assert_eq!(dims(json!({"op": "randn", "args": [[2, 3]], "seed": 1})), [2, 3]);
    for parts in [json!([[grid, grid], 1]), json!([[grid, grid], -1])] {
        assert_eq!(dims(json!({"op": "cat", "args": parts})), [2, 6]);
    }
    assert_eq!(dims(json!({"op": "cat", "args": [grid, grid], "dim": 1})), [2, 6]);
    assert_eq!(dims(json!({"op": "stack", "tensors": [grid, grid]})), [2, 2, 3]);
    assert_eq!(dims(json!({"op": "einsum", "args": ["ij,kj->ik", grid, grid]})), [2, 2]);
    assert_eq!(dims(json!({"op": "einsum", "args": ["ij,kj->ik", ["@joy[None]", "@joy[None]"]]})), [1, 1]);
    assert_eq!(dims(json!({"op": "einsum", "equation": "ij->j", "operands": [grid]})), [3]);
    assert_eq!(dims(json!({"op": "sum", "args": [grid], "axis": 0, "keepdims": true})), [1, 3]);
    assert_eq!(dims(json!({"op": "clamp", "args": [grid, null, 2]})), [2, 3]);
    for (args, expected) in [(json!([5]), 5), (json!([2, 5]), 3), (json!([2, 7, 2]), 3), (json!([5, 2, -2]), 2)] {
        assert_eq!(dims(json!({"op": "arange", "args": args})), [expected]);
    }
    // by position, a flag is `unbiased` and a number an axis
    assert_eq!(dims(json!({"op": "var", "args": [grid, false]})), [0usize; 0]);
    assert_eq!(dims(json!({"op": "var", "args": [grid, 1, false]})), [2]);
    assert_eq!(dims(json!({"op": "max", "args": [grid, 2.5]})), [2, 3]);
    assert_eq!(dims(json!({"op": "max", "args": [grid, 1]})), [2]);
    assert_eq!(dims(json!({"op": "max", "args": [grid, "@joy[0]"]})), [2, 3]);
}

#[test]
fn types_follow_pytorch() {
    let dtype = |op: &str, args: Value| typed(json!({"op": op, "args": args})).1;
    let ints = json!([1, 2]);
    for (op, args, expected) in [
        ("add", json!([ints, 1.5]), DType::F32),
        ("div", json!([ints, 2]), DType::F32),
        ("eq", json!([ints, 2]), DType::Bool),
        ("sum", json!([[true, false]]), DType::I64),
        ("argmax", json!(["@joy"]), DType::I64),
        ("exp", json!([ints]), DType::F32),
        ("arange", json!([3]), DType::I64),
        ("arange", json!([3.0]), DType::F32),
        ("full", json!([[2], true]), DType::Bool),
        ("cast", json!([ints, "bf16"]), DType::Bf16),
    ] {
        assert_eq!(dtype(op, args), expected, "{op}");
    }
    let rounded = json!({"op": "div", "args": [ints, 2], "rounding_mode": "floor"});
    assert_eq!(typed(rounded).1, DType::I64);
}

#[test]
fn only_outputs_that_are_used_are_made() {
    let top = json!({"op": "topk", "args": ["@joy", 3], "id": "top"});
    let save = |value: &str, name: &str| json!({"op": "save", "value": value, "as": name});
    let made = |graph: Value| operations(&plan(graph).unwrap());
    assert_eq!(made(json!([top, save("$top", "a")])), [(Op::Topk, 0)]);
    assert_eq!(made(json!([save("$top.indices[0]", "a"), top])), [(Op::Topk, 1)]);
    assert_eq!(made(json!([top, save("$top.indices", "a"), save("$top.1[0]", "b")])), [(Op::Topk, 1)]);
    assert_eq!(made(json!([top, save("$top.indices", "a"), save("$top", "b")])), [(Op::Topk, 1), (Op::Topk, 0)]);
    let inline = json!({"op": "sort", "args": ["@joy"], "out": "indices"});
    assert_eq!(made(json!([{"op": "save", "value": inline, "as": "a"}])), [(Op::Sort, 1)]);
    let own = json!({"op": "split", "args": ["@joy", 3], "out": 2, "id": "s"});
    let plan = plan(json!([own, save("$s", "a"), save("$s.0", "b")])).unwrap();
    assert_eq!(operations(&plan), [(Op::Split, 2), (Op::Split, 0)]);
    assert_eq!(plan.values[plan.results[0].value].shape.dims, [2]);
}

#[test]
fn outputs_that_are_not_there() {
    let with = |node: Value, value: &str| json!([node, {"op": "save", "value": value, "as": "x"}]);
    let top = json!({"op": "topk", "args": ["@joy", 3], "id": "t"});
    refused(with(top.clone(), "$t.index"), Code::BadArgument, "/graph/1/value", "`indices`");
    refused(with(top.clone(), "$t.2"), Code::BadArgument, "/graph/1/value", "`values`");
    let split = json!({"op": "split", "args": ["@joy", 3], "id": "t"});
    refused(with(split, "$t.3"), Code::BadArgument, "/graph/1/value", "`2`");
    let all = json!({"op": "max", "args": ["@joy"], "id": "t"});
    refused(with(all, "$t.indices"), Code::BadArgument, "/graph/1/value", "one output");
    let neg = json!({"op": "neg", "args": ["@joy"], "id": "t"});
    refused(with(neg, "$t.0"), Code::BadArgument, "/graph/1/value", "`$t`");
    let out = |op: &str, out: Value| save(json!({"op": op, "args": ["@joy"], "out": out}));
    refused(out("sort", json!("index")), Code::BadArgument, "/graph/0/value/out", "`indices`");
    refused(out("neg", json!(0)), Code::BadArgument, "/graph/0/value/out", "leave");
    refused(json!([top, {"op": "save", "value": 1, "as": "x"}]), Code::UnusedNode, "/graph/0", "");
    let dotted = json!([{"op": "neg", "args": [1], "id": "a.b"}]);
    refused(dotted, Code::BadArgument, "/graph/0/id", "`.`");
}

#[test]
fn arguments_that_are_wrong() {
    let node = |op: &str, args: Value| save(json!({"op": op, "args": args}));
    let at = |place: &str| format!("/graph/0/value{place}");
    let bad = Code::BadArgument;
    for (op, args, code, pointer, hint) in [
        ("reshape", json!(["@joy", 2, 2.5]), bad, "/args/2", ""),
        ("reshape", json!(["@joy", 3, -1]), Code::ShapeMismatch, "", ""),
        ("reshape", json!(["@joy", -1, -1]), bad, "", "one size"),
        ("permute", json!(["@joy", 0, 0]), bad, "", ""),
        ("cat", json!([["@joy"], 0, 1]), bad, "/args/2", ""),
        ("cat", json!([]), Code::MissingField, "", "tensors"),
        ("cat", json!([[]]), Code::MissingField, "/args/0", ""),
        ("topk", json!(["@joy", 9]), Code::IndexOutOfRange, "", "0 to 8"),
        ("one_hot", json!([[3], 3]), Code::IndexOutOfRange, "/args/0", "0 to 2"),
        ("one_hot", json!([[0]]), Code::MissingField, "", "num_classes"),
        ("index_select", json!(["@joy", 0, [8]]), Code::IndexOutOfRange, "/args/2", "0 to 7"),
        ("gather", json!(["@joy", 0, [-1]]), Code::IndexOutOfRange, "/args/2", ""),
        ("cross_entropy", json!([[0.5, 0.5], 2]), Code::IndexOutOfRange, "/args/1", "0 to 1"),
        ("matmul", json!(["@joy", [1, 2, 3, 4, 5, 6, 7, 8]]), Code::DtypeMismatch, "", "1.0"),
        ("matmul", json!(["@joy", [1.0]]), Code::ShapeMismatch, "", "transpose"),
        ("einsum", json!(["i,j->k", "@joy", "@joy"]), bad, "", "bij"),
        ("einsum", json!(["ij", "@joy"]), Code::ShapeMismatch, "", "letter"),
        ("mean", json!([[1, 2]]), Code::DtypeMismatch, "", "floats"),
        ("where", json!([[1, 0], 1.0, 2.0]), Code::DtypeMismatch, "/args/0", "ne"),
        ("cast", json!(["@joy", "f23"]), Code::DtypeMismatch, "/args/1", "`f32`"),
        ("clamp", json!(["@joy"]), Code::MissingField, "", "clamp"),
        ("randn", json!([2]), Code::MissingField, "", "seed"),
        ("arange", json!([0, 5, 0]), bad, "", "step"),
        ("gelu", json!(["@joy", "exact"]), bad, "/args/1", ""),
    ] {
        refused(node(op, args), code, &at(pointer), hint);
    }
    let field = |op: Value| save(op);
    let unknown = json!({"op": "softmax", "args": ["@joy"], "dims": 0});
    refused(field(unknown), Code::MissingField, "/graph/0/value", "softmax(input, dim");
    let unknown = json!({"op": "sum", "args": ["@joy"], "keepdin": true});
    refused(field(unknown), Code::UnknownField, "/graph/0/value/keepdin", "`keepdim`");
    let twice = json!({"op": "sum", "args": ["@joy"], "dim": 0, "axis": 0});
    refused(field(twice), bad, "/graph/0/value/axis", "");
    let twice = json!({"op": "sum", "args": ["@joy", 0], "axis": 0});
    refused(field(twice), bad, "/graph/0/value/axis", "");
}

#[test]
fn prices_are_those_of_the_table() {
    let flops = |value: Value| plan(save(value)).unwrap().cost.flops;
    let wide = json!({"op": "zeros", "args": [10, 20]});
    let base = flops(wide.clone());
    let tall = json!({"op": "zeros", "args": [20, 30]});
    let product = json!({"op": "matmul", "args": [wide, tall]});
    assert_eq!(flops(product) - base - flops(tall), 2.0 * 10.0 * 20.0 * 30.0);
    assert!(flops(json!({"op": "sort", "args": [wide]})) > base + 200.0 * 4.0);
    assert_eq!(flops(json!({"op": "reshape", "args": [wide, -1]})), base);
}

#[test]
fn every_operation_says_what_it_does() {
    for spec in ops::all() {
        assert!(!spec.about.is_empty() && !spec.about.ends_with('.'), "{}", spec.name);
        let problem: Problem = plan(save(json!({"op": spec.name, "args": [], "nonsense": 1}))).unwrap_err();
        assert!(!problem.detail.is_empty());
    }
}
