//! What a job really takes: operations counted kernel by kernel, bytes counted by the allocator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};
use patchbay_engine::{Answer, Engine, EngineSettings, Job};
use patchbay_graph::plan::{Plan, Source};
use patchbay_model::kernels::{Cpu, Kernels, Plain, Scoring};
use patchbay_model::spec::Activation;
use patchbay_model::{Decoder, Linear, Norm, RotaryRows, Segments};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

static TURN: Mutex<()> = Mutex::new(());

/// One test at a time: the allocator counts for the whole process.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kernels that count the multiply-adds of what passes through them, two operations each.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Kernels>,
    /// Whether the matrices of attention are computed whole, masked or not.
    whole: bool,
    count: Arc<AtomicU64>,
}

impl Counting {
    /// Counts a product; where candle records it, it will make both of its gradients.
    fn add(&self, products: usize, inputs: &[&Tensor]) {
        let times = if inputs.iter().any(|input| input.track_op()) { 3 } else { 1 };
        self.count.fetch_add(2 * times * products as u64, Ordering::Relaxed);
    }

    /// Query-key pairs that are looked at.
    fn pairs(&self, segments: &Segments, scoring: &Scoring) -> usize {
        let row = |query: usize, keys: usize| if self.whole { keys } else { query + 1 - scoring.first_key(query) };
        let pairs =
            segments.iter().flat_map(|segment| segment.positions().map(|query| row(query, segment.key_count())));
        pairs.sum()
    }
}

impl Kernels for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
        for projection in projections {
            // a gradient is that of the input alone
            let (output, input) = projection.weight.dims2()?;
            let products = x.dim(0)? * output * input;
            self.add(products, &[]);
            if x.track_op() {
                self.add(products, &[]);
            }
        }
        self.inner.linear(x, projections)
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        self.inner.norm(x, norm)
    }

    fn rotate(&self, x: &Tensor, rows: &RotaryRows) -> Result<Tensor> {
        self.inner.rotate(x, rows)
    }

    fn scores(&self, q: &Tensor, keys: &[Tensor], segments: &Segments, scoring: &Scoring) -> Result<Tensor> {
        let (_, heads, dim) = q.dims3()?;
        self.add(self.pairs(segments, scoring) * heads * dim, &[q, &keys[0]]);
        self.inner.scores(q, keys, segments, scoring)
    }

    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize, sinks: Option<&[f32]>) -> Result<Tensor> {
        self.inner.probs(scores, segments, heads, sinks)
    }

    fn mix(&self, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
        self.add(segments.pairs(heads) * values[0].dim(2)?, &[probs, &values[0]]);
        self.inner.mix(probs, values, segments, heads)
    }

    fn attention(
        &self,
        q: &Tensor,
        keys: &[Tensor],
        values: &[Tensor],
        segments: &Segments,
        scoring: &Scoring,
    ) -> Result<Tensor> {
        let (_, heads, dim) = q.dims3()?;
        self.add(self.pairs(segments, scoring) * heads * (dim + values[0].dim(2)?), &[q, &keys[0], &values[0]]);
        self.inner.attention(q, keys, values, segments, scoring)
    }

    fn activate(&self, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
        self.inner.activate(activation, x, up)
    }

    fn differentiable(&self) -> Arc<dyn Kernels> {
        Arc::new(Self { inner: self.inner.differentiable(), whole: true, count: Arc::clone(&self.count) })
    }
}

/// What a job took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) flops: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) result_bytes: u64,
}

/// Has the library of matrix products make the buffers that the process keeps from then on.
pub(crate) fn warm_up() {
    let square = Tensor::ones((1024, 1024), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    square.matmul(&square).unwrap();
}

/// Runs a job alone, with the kernels of the processor or with plain ones.
pub(crate) fn measure(decoder: &Decoder, plain: bool, job: Job) -> Measured {
    let count = Arc::new(AtomicU64::new(0));
    let inner: Arc<dyn Kernels> = if plain { Arc::new(Plain) } else { Arc::new(Cpu::new()) };
    let kernels = Counting { inner, whole: plain, count: Arc::clone(&count) };
    let own = operations(&job.plan);
    // what waves leave for others is not in their price: it takes what is free
    let settings = EngineSettings { prefix_bytes: 0, ..EngineSettings::default() };
    let engine = Engine::start(Arc::new(decoder.with_kernels(Arc::new(kernels))), settings);
    let profiler = dhat::Profiler::builder().testing().build();
    let outcome = engine.submit(job).unwrap().blocking_recv().unwrap().unwrap();
    let peak_bytes = dhat::HeapStats::get().max_bytes as u64;
    drop(profiler);
    Measured {
        flops: count.load(Ordering::Relaxed) as f64 + own,
        peak_bytes,
        result_bytes: outcome.results.iter().map(|(_, answer)| bytes(answer)).sum(),
    }
}

/// What the operations of a graph say that they cost.
fn operations(plan: &Plan) -> f64 {
    use patchbay_graph::ops::{Arg, Attrs, Given};
    let cost = |value: &patchbay_graph::plan::Value| {
        let Source::Op { spec, args, params, attrs, .. } = &value.source else { return 0.0 };
        let arg = |(id, name): (&usize, &&'static str)| {
            let value = &plan.values[*id];
            Arg { name, shape: &value.shape, dtype: value.dtype, weak: value.weak, literal: None }
        };
        let args: Vec<Arg<'_>> = args.iter().zip(params).map(arg).collect();
        spec.cost(&Given { spec, args: &args, attrs: Attrs(attrs) }, &value.shape).0
    };
    plan.values.iter().map(cost).sum()
}

fn bytes(answer: &Answer) -> u64 {
    match answer {
        Answer::Tensor { tensor, .. } => (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64,
        Answer::Tokens { tokens, .. } => {
            (tokens.iter().map(Vec::len).sum::<usize>() * size_of::<patchbay_engine::TokenScore>()) as u64
        }
    }
}
