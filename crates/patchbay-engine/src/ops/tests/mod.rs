//! Tests of all operations: against PyTorch, and of what the plan says against what ran.

mod pieces;
mod random;
mod recorded;
mod rows;

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use patchbay_graph::ops::Attrs;
use patchbay_graph::plan::{Plan, Source};
use patchbay_graph::{
    Code, Context, DType as GraphType, LayerTree, Limits, Problem, Request, Store, TokenRow, TokenRows, Tree, check,
};
use serde_json::{Value, json};

use super::{Call, Input};
use crate::values::literal;

/// Tensors by name, with the types that the protocol has for them.
#[derive(Default)]
pub(super) struct Shelf(HashMap<String, (GraphType, Tensor)>);

impl Store for Shelf {
    fn describe(&self, name: &str, _: Option<&str>) -> std::result::Result<(GraphType, Vec<usize>), Problem> {
        match self.0.get(name) {
            Some((dtype, tensor)) => Ok((*dtype, tensor.dims().to_vec())),
            None => Err(Problem::new(Code::UnknownTensor, format!("there is no tensor `@{name}`"))),
        }
    }
}

impl Shelf {
    pub(super) fn put(&mut self, name: &str, dtype: GraphType, tensor: Tensor) {
        self.0.insert(name.into(), (dtype, tensor));
    }
}

/// The plan of a graph that reads no sites, on a model that does not matter.
pub(super) fn plan(graph: &Value, shelf: &Shelf) -> std::result::Result<Plan, Problem> {
    let layer = LayerTree {
        heads: 1,
        kv_heads: 1,
        head_dim: 1,
        value_dim: 1,
        mlp: Some(1),
        gate: true,
        experts: None,
        window: None,
        chunk: None,
        sequential: true,
        norms: Vec::new(),
    };
    let tree = Tree { hidden: 1, vocab: 2, context: 8, fused: true, layers: vec![layer], weights: Default::default() };
    let request = Request::parse(&json!({"input": "a", "graph": graph}))?;
    let row = TokenRow { text: "a".into(), ends: vec![1], ..TokenRow::default() };
    let inputs = [TokenRows { name: "input".into(), rows: vec![row] }];
    check(&request, &Context { tree: &tree, inputs: &inputs, store: shelf, limits: &Limits::default() })
}

/// Every value of a plan that reads no sites.
pub(super) fn run(plan: &Plan, shelf: &Shelf) -> Result<Vec<Tensor>> {
    let mut values: Vec<Tensor> = Vec::new();
    for value in &plan.values {
        let made = match &value.source {
            Source::Literal(found) => literal(found, &Device::Cpu)?,
            Source::Stored { name, .. } => shelf.0[name].1.clone(),
            Source::Op { spec, args, params, attrs, out } => {
                let input = |(id, name): (&usize, &&'static str)| {
                    let value = &plan.values[*id];
                    let tensor = match &value.source {
                        Source::Literal(literal) if literal.weak => Tensor::new(literal.data[0], &Device::Cpu)?,
                        _ => values[*id].clone(),
                    };
                    Ok(Input { name, shape: &value.shape, dtype: value.dtype, weak: value.weak, tensor })
                };
                let inputs = args.iter().zip(params).map(input).collect::<Result<_>>()?;
                let (shape, dtype) = (&value.shape, value.dtype);
                Call { spec, attrs: Attrs(attrs), inputs, out: *out, shape, dtype, device: &Device::Cpu }.run()?
            }
            source => candle_core::bail!("{source:?} is not for this test"),
        };
        values.push(made);
    }
    Ok(values)
}

/// Elements in row-major order.
pub(super) fn elements(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()?.to_vec1()).unwrap()
}
