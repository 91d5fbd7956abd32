//! What goes into the executor, and what comes out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
use patchbay_graph::{Plan, Shape};
use serde::Serialize;

/// A plan with everything it needs to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The checked graph.
    pub plan: Arc<Plan>,
    /// Token ids: input, row, token; of the lengths that the plan was made for.
    pub ids: Vec<Vec<Vec<u32>>>,
    /// The caller's tensors that the plan names, by name and key.
    pub tensors: HashMap<(String, Option<String>), Tensor>,
    /// Stops the job between layers.
    pub cancel: Cancel,
}

/// A switch that stops a job; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops the job at the next layer.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody stopped it.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a job came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Results in the order of the plan.
    pub results: Vec<(String, Answer)>,
    /// Tensors to keep in the caller's store, by name.
    pub kept: Vec<(String, Tensor)>,
    /// One line for every write that ran.
    pub receipts: Vec<Receipt>,
    /// What it took.
    pub usage: Usage,
}

/// One result.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A tensor, on the CPU and contiguous.
    Tensor {
        /// The elements; booleans are u8 here.
        tensor: Tensor,
        /// Its shape, with the true lengths where rows differ.
        shape: Shape,
        /// Its type in the protocol.
        dtype: patchbay_graph::DType,
    },
    /// The likeliest tokens at each place, best first.
    Tokens {
        /// Axes of the places.
        dims: Vec<usize>,
        /// `k` a place, places in row-major order.
        tokens: Vec<Vec<TokenScore>>,
    },
}

/// A token and how likely it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenScore {
    /// Its id.
    pub id: u32,
    /// Softmax over the vocabulary.
    pub prob: f32,
    /// The raw value.
    pub logit: f32,
}

/// A write that ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    /// Number of the node in the request's list.
    pub node: usize,
    /// The cell of a sweep: its place on every axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<Vec<usize>>,
    /// The site.
    pub site: String,
    /// Name of the input.
    pub input: String,
    /// Rows touched.
    pub rows: usize,
    /// Token positions touched, over all rows.
    pub positions: usize,
    /// Euclidean norm of the change, over all elements.
    pub delta_norm: f64,
}

/// What a job took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of all inputs.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Cells of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<usize>,
    /// Walks through the layers.
    pub passes: usize,
    /// Blocks run, over all passes.
    pub layers_run: usize,
    /// Blocks of the model.
    pub layer_count: usize,
    /// Requests that shared a wave, this one included.
    pub co_batched: usize,
    /// Milliseconds from arrival to start.
    pub queue_ms: f64,
    /// Milliseconds from start to end.
    pub compute_ms: f64,
}
