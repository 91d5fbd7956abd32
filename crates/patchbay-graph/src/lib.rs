//! The graph language of patchbay.
//!
//! A request is data: inputs, and a graph of reads and writes at named sites of one standardized decoder. This crate
//! turns the graph, as it came ([`Request`]), into a [`Plan`], as it was understood: every site found, every shape known,
//! every value placed in the order of the forward pass. It holds no tensors and does no input or output; a plan that exists
//! is valid.
//!
//! The way of a graph: [`Request::parse`] reads nodes ([`node`]), from JSON or from the text form ([`text`]), and their
//! operands ([`operand`], [`path`], [`index`]); [`check()`] resolves them against a model's [`Tree`] and the tokenized inputs,
//! infers every shape ([`shape`], [`ops`], [`selection`]), and schedules the passes.
//!
//! ```
//! use patchbay_graph::{Code, Context, DType, LayerTree, Limits, Problem, Request, Store, TokenRow, TokenRows, Tree, check};
//! use serde_json::json;
//!
//! // two layers, eight wide, with two heads each
//! let layer = LayerTree {
//!     heads: 2, kv_heads: 2, head_dim: 4, value_dim: 4, mlp: Some(16), gate: true, experts: None, window: None, chunk: None,
//!     sequential: true, norms: Vec::new(),
//! };
//! let tree = Tree { hidden: 8, vocab: 100, context: 32, fused: true, layers: vec![layer; 2], weights: Default::default() };
//!
//! // a caller who has no tensors in store
//! struct Empty;
//! impl Store for Empty {
//!     fn describe(&self, name: &str, _key: Option<&str>) -> Result<(DType, Vec<usize>), Problem> {
//!         Err(Problem::new(Code::UnknownTensor, format!("there is no tensor `@{name}`")))
//!     }
//! }
//!
//! // the input has three tokens, "The", " capital" and " is", which end at these bytes
//! let row = TokenRow { text: "The capital is".into(), ends: vec![3, 11, 14], ..TokenRow::default() };
//! let inputs = [TokenRows { name: "input".into(), rows: vec![row] }];
//! let context = Context { tree: &tree, inputs: &inputs, store: &Empty, limits: &Limits::default() };
//!
//! let request = Request::parse(&json!({
//!     "input": "The capital is",
//!     "graph": [
//!         {"op": "set", "target": "layers.0.output[:, ' capital']", "value": 0},
//!         {"op": "save", "value": "layers[-1].self_attn.probs", "as": "attention"},
//!     ],
//! }))?;
//! let plan = check(&request, &context)?;
//! let attention = &plan.values[plan.results[0].value];
//! assert_eq!(attention.shape.dims, [1, 2, 3, 3]);
//! assert_eq!(plan.passes.len(), 1);
//!
//! // what is wrong is found before anything runs, with its place and how to mend it
//! let request = Request::parse(&json!({
//!     "input": "The capital is",
//!     "graph": [{"op": "save", "value": "layers.99.output", "as": "x"}],
//! }))?;
//! let problem = check(&request, &context).unwrap_err();
//! assert_eq!(problem.pointer, "/graph/0/value");
//! assert_eq!(problem.hint.as_deref(), Some("this model has layers 0 to 1"));
//! # Ok::<(), Problem>(())
//! ```
pub mod check;
pub mod context;
pub mod conversation;
pub mod dtype;
pub mod edit;
pub mod fields;
pub mod index;
pub mod literal;
pub mod module;
pub mod node;
pub mod operand;
pub mod ops;
pub mod path;
pub mod plan;
pub mod problem;
pub mod request;
pub mod selection;
pub mod shape;
pub mod site;
pub mod stage;
pub mod steps;
pub mod sweep;
mod template;
pub mod text;
pub mod token_places;
pub mod tree;
pub mod wave;
pub mod weight;
pub mod weights;

pub use check::{
    Generation, Joined, NEXT_LOGITS, PROMPT_LOGPROBS, PROMPT_TOP, Parts, Saved, SweepPlan, Swept, cell, check,
    check_parts, check_sweep, check_sweep_while, score_prompt,
};
pub use context::{Context, Limits, Store, TokenRow, TokenRows};
pub use conversation::Conversation;
pub use dtype::DType;
pub use edit::{Edit, Edits};
pub use plan::{Plan, PlanInput};
pub use problem::{Code, Problem};
pub use request::{Encoding, Input, InputRow, Output, Request, timeout_ms};
pub use shape::Shape;
pub use site::{Axis, LayerSite, Packing, Site};
pub use sweep::Sweep;
pub use token_places::{TokenPlaces, token_places};
pub use tree::{Experts, LayerTree, Tree};
