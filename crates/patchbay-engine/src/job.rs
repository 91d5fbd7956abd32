//! What goes into the executor, and what comes out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use candle_core::Tensor;
use patchbay_graph::plan::Pass;
use patchbay_graph::wave::{Asked, Wave};
use patchbay_graph::{Code, Plan, Problem, Shape};
use patchbay_model::{Decoder, KeyCache};
use serde::Serialize;

use crate::engine::EngineError;
use crate::memory::Held;
use crate::schedule::{Claim, Price};

/// A plan with everything it needs to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The checked graph.
    pub plan: Arc<Plan>,
    /// Token ids: input, row, token; of the lengths that the plan was made for.
    pub ids: Vec<Vec<Vec<u32>>>,
    /// The caller's tensors that the plan names, by name and key.
    pub tensors: HashMap<(String, Option<String>), Tensor>,
    /// Keys and values of the tokens before these, input by input and row by row, to which those of this job's are added. None
    /// where nothing stands here.
    pub histories: Vec<Vec<History>>,
    /// Stops the job between layers.
    pub cancel: Cancel,
    /// When its turn comes.
    pub order: Order,
}

/// Whose a job is, what it does, and when it has to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose it is.
    pub claim: Claim,
    /// What it does; where nothing stands here, what its plan says, with nothing in common with others.
    pub price: Option<Price>,
    /// When its time is over.
    pub deadline: Option<Instant>,
    /// Whether it belongs to a request that was let in before, and so is not refused where the queue is full.
    pub goes_on: bool,
}

impl Order {
    /// Of a request of its own, of a caller by this name, who counts as much as others.
    pub fn new(caller: Arc<str>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let request = NEXT.fetch_add(1, Ordering::Relaxed);
        let claim = Claim { caller, weight: 1.0, request };
        Self { claim, price: None, deadline: None, goes_on: false }
    }

    /// Whether its time is over.
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

impl Default for Order {
    fn default() -> Self {
        Self::new("".into())
    }
}

/// Keys and values of a sequence that is computed in several passes; clones share them.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<KeyCache>>);

impl History {
    /// The keys and values.
    pub fn cache(&self) -> MutexGuard<'_, KeyCache> {
        // a panic leaves rows that do not count
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another sequence that begins with the first tokens of this one, which nothing is added to any more.
    pub fn fork(&self, tokens: usize) -> Self {
        Self(Arc::new(Mutex::new(self.cache().fork(tokens))))
    }
}

impl Job {
    /// How many tokens came before those of each row: input, row.
    pub(crate) fn past(&self) -> Vec<Vec<usize>> {
        self.histories.iter().map(|rows| rows.iter().map(|history| history.cache().tokens()).collect()).collect()
    }

    /// One of its passes, with the tokens that came before.
    pub(crate) fn asked<'a>(&'a self, pass: &'a Pass, past: &'a [Vec<usize>]) -> Asked<'a> {
        Asked { plan: &self.plan, pass, ids: &self.ids, past, keeps: self.histories.len() }
    }

    /// Whether some of its rows take no part any more.
    pub(crate) fn has_ended_rows(&self) -> bool {
        self.ids.iter().flatten().any(Vec::is_empty)
    }

    /// The job with a price that knows what it has in common with others of its request, which begin like it: with other
    /// writes, but of the same inputs.
    pub fn priced(mut self, decoder: &Decoder) -> Self {
        let (plan, past) = (&self.plan, self.past());
        let flops = plan.cost.flops;
        if plan.gradients.is_empty() && plan.cost.token_layers > 0 {
            let wave = |pass| Wave::new(&[self.asked(pass, &past)], decoder.tree(), decoder.depends_on_length());
            let waves = plan.passes.iter().map(wave).map(|wave| (wave.own_token_layers(), wave.token_layers()));
            let (own, all) = waves.fold((0, 0), |sum, wave| (sum.0 + wave.0, sum.1 + wave.1));
            let work = |token_layers: usize| flops * token_layers as f64 / plan.cost.token_layers as f64;
            self.order.price = Some(Price { own: work(own), common: work(all - own) });
        }
        self
    }

    /// What it is refused with where it would hold more than may be held at all: it would wait for ever.
    pub(crate) fn beyond(&self, limit: u64) -> Option<EngineError> {
        let peak = self.plan.cost.peak_bytes;
        let problem = || {
            let detail = format!("this would hold {peak} bytes, and all requests together may hold {limit}");
            Problem::new(Code::TooLarge, detail).at("/graph")
        };
        (peak > limit).then(|| EngineError::Refused(problem()))
    }

    /// Why it does not run on, if it was stopped.
    pub(crate) fn stopped(&self) -> Option<EngineError> {
        match () {
            () if self.cancel.is_cancelled() => Some(EngineError::Cancelled),
            () if self.order.is_late() => Some(EngineError::TimedOut),
            () => None,
        }
    }
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
    /// When it ran; none before it is answered.
    pub times: Option<Times>,
    /// The memory of the results, which counts until the last copy is dropped.
    pub held: Option<Arc<Held>>,
}

/// When a job ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it came.
    pub arrived: Instant,
    /// When its wave began.
    pub started: Instant,
    /// When it was done.
    pub ended: Instant,
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
    /// Tokens of all inputs; of a generation, those before the first new one.
    pub prompt_tokens: usize,
    /// How many of them were not computed, as their keys had been kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<usize>,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Cells of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<usize>,
    /// Parts that the rows ran in, where all of them together would have held too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// Walks through the layers.
    pub passes: usize,
    /// Blocks run, over all passes.
    pub layers_run: usize,
    /// Blocks of the model.
    pub layer_count: usize,
    /// Tokens times blocks that ran for it, over all passes. What it had in common with others counts in equal parts.
    pub token_layers: usize,
    /// Tokens times blocks that did not have to run for it, as its rows, or it and others, had them in common.
    pub shared: usize,
    /// Requests that shared a wave, this one included.
    pub co_batched: usize,
    /// Milliseconds from arrival to start.
    pub queue_ms: f64,
    /// Milliseconds from start to end.
    pub compute_ms: f64,
}

impl Usage {
    /// What this took and another run of the same request after it: the work of both, and else what the other one says.
    pub fn and(self, next: Self) -> Self {
        Self {
            cached_tokens: self.cached_tokens.max(next.cached_tokens),
            passes: self.passes + next.passes,
            layers_run: self.layers_run + next.layers_run,
            token_layers: self.token_layers + next.token_layers,
            shared: self.shared + next.shared,
            co_batched: self.co_batched.max(next.co_batched),
            ..next
        }
    }
}
