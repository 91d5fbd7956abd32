//! A golden model behind an engine, asked as the server would ask.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "no test file needs all of it; a test stops where something fails"
)]

mod random;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use patchbay_checkpoint::{HubSettings, Source, open};
use patchbay_engine::{Answer, Cancel, Engine, EngineError, EngineSettings, Job, Order, Outcome};
use patchbay_graph::{
    Code, Context, DType as GraphType, Input, InputRow, Limits, Plan, Problem, Request, Store, TokenRow, TokenRows,
    Tree, check,
};
use patchbay_model::{Decoder, LoadOptions};
use serde_json::{Value, json};

pub(crate) use random::Random;

/// A model, its engine, and a store.
pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) stored: HashMap<String, Tensor>,
}

/// A request that ran.
pub(crate) struct Ran {
    pub(crate) plan: Arc<Plan>,
    pub(crate) outcome: Outcome,
}

/// A request that is in the queue or runs.
pub(crate) struct Running {
    plan: Arc<Plan>,
    reply: tokio::sync::oneshot::Receiver<Result<Outcome, EngineError>>,
}

impl Running {
    pub(crate) fn wait(self) -> Result<Ran, EngineError> {
        let outcome = self.reply.blocking_recv().map_err(|_| EngineError::Stopped)??;
        Ok(Ran { plan: self.plan, outcome })
    }

    /// Whether its result is there.
    pub(crate) fn has_ended(&self) -> bool {
        !self.reply.is_empty()
    }
}

struct Shelf<'a>(&'a HashMap<String, Tensor>);

impl Store for Shelf<'_> {
    fn describe(&self, name: &str, _key: Option<&str>) -> Result<(GraphType, Vec<usize>), Problem> {
        let names = || self.0.keys().map(String::as_str);
        let missing =
            || Problem::new(Code::UnknownTensor, format!("there is no tensor `@{name}`")).suggest(name, names());
        self.0.get(name).map(|tensor| (GraphType::F32, tensor.dims().to_vec())).ok_or_else(missing)
    }
}

impl Lab {
    /// A model of `tests/golden`.
    pub(crate) fn golden(name: &str) -> Self {
        Self::golden_with(name, EngineSettings::default())
    }

    /// The same with an engine of these settings.
    pub(crate) fn golden_with(name: &str, settings: EngineSettings) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
        Self::load(&Source::Folder(folder), settings)
    }

    /// SmolLM2, where the tests are told of a folder that has it.
    pub(crate) fn smollm2() -> Option<Self> {
        let folder = std::env::var_os("PATCHBAY_TEST_MODELS").map(PathBuf::from);
        let file = folder.map(|folder| folder.join("SmolLM2-135M-Instruct.Q4_1.gguf")).filter(|file| file.is_file());
        if file.is_none() {
            eprintln!("skipped: SmolLM2 is not in the folder PATCHBAY_TEST_MODELS");
        }
        Some(Self::load(&Source::Gguf(file?), EngineSettings::default()))
    }

    fn load(source: &Source, settings: EngineSettings) -> Self {
        let checkpoint = open(source, &HubSettings::default(), &|_| ()).unwrap();
        let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ()).unwrap();
        let hidden = decoder.tree().hidden;
        let joy: Vec<f32> = (0..hidden).map(|i| ((i * 7 + 3) % 11) as f32 * 0.1 - 0.5).collect();
        let stored = HashMap::from([("joy".to_owned(), Tensor::new(joy, &Device::Cpu).unwrap())]);
        Self { engine: Engine::start(Arc::new(decoder), settings), stored }
    }

    pub(crate) fn tree(&self) -> &Tree {
        self.engine.decoder().tree()
    }

    /// Parses and checks a body whose inputs are token ids.
    pub(crate) fn plan(&self, body: &Value) -> Result<(Request, Plan), Problem> {
        let request = Request::parse(body)?;
        let inputs: Vec<TokenRows> = request.inputs.iter().map(spell).collect();
        let limits = Limits::default();
        let shelf = Shelf(&self.stored);
        let plan = check(&request, &Context { tree: self.tree(), inputs: &inputs, store: &shelf, limits: &limits })?;
        Ok((request, plan))
    }

    /// Runs a body.
    pub(crate) fn try_run(&self, body: &Value) -> Result<Ran, EngineError> {
        self.submit(body)?.wait()
    }

    /// Puts a body into the queue.
    pub(crate) fn submit(&self, body: &Value) -> Result<Running, EngineError> {
        self.submit_as(body, Order::default(), Cancel::default())
    }

    /// The same for somebody, who may stop it.
    pub(crate) fn submit_as(&self, body: &Value, order: Order, cancel: Cancel) -> Result<Running, EngineError> {
        self.start(Job { order, cancel, ..self.job(body)? })
    }

    /// A body that can be put into the queue.
    pub(crate) fn job(&self, body: &Value) -> Result<Job, EngineError> {
        let (request, plan) = self.plan(body).map_err(EngineError::Refused)?;
        let ids = request.inputs.iter().map(|input| input.rows.iter().map(ids).collect()).collect();
        let tensors = self.stored.iter().map(|(name, tensor)| ((name.clone(), None), tensor.clone())).collect();
        let (cancel, order) = (Cancel::default(), Order::default());
        Ok(Job { plan: Arc::new(plan), ids, tensors, histories: Vec::new(), cancel, order })
    }

    /// Puts it there.
    pub(crate) fn start(&self, job: Job) -> Result<Running, EngineError> {
        Ok(Running { plan: Arc::clone(&job.plan), reply: self.engine.submit(job)? })
    }

    /// Runs a body that is right.
    #[track_caller]
    pub(crate) fn run(&self, body: &Value) -> Ran {
        self.try_run(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Runs a graph on one input.
    #[track_caller]
    pub(crate) fn trace(&self, input: &Value, graph: Value) -> Ran {
        self.run(&json!({"input": input, "graph": graph}))
    }

    /// The value of one operand, in f64, on one input.
    #[track_caller]
    pub(crate) fn value(&self, input: &Value, value: Value) -> Tensor {
        self.trace(input, json!([{"op": "save", "value": value, "as": "x"}])).tensor("x")
    }
}

impl Ran {
    /// A result in f64.
    #[track_caller]
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        self.raw(name).to_dtype(DType::F64).unwrap()
    }

    /// A result as it came.
    #[track_caller]
    pub(crate) fn raw(&self, name: &str) -> Tensor {
        match self.outcome.results.iter().find(|(found, _)| found == name) {
            Some((_, Answer::Tensor { tensor, .. })) => tensor.clone(),
            other => panic!("{name} is {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(&self.tensor(name))
    }

    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> f64 {
        let found = self.numbers(name);
        assert_eq!(found.len(), 1, "{name}");
        found[0]
    }
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn ids(row: &InputRow) -> Vec<u32> {
    match row {
        InputRow::Ids(ids) => ids.clone(),
        other => panic!("{other:?} is not token ids"),
    }
}

/// Token 7 is spelled ` t7`.
fn spell(input: &Input) -> TokenRows {
    let row = |row: &InputRow| {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for id in ids(row) {
            text.push_str(&format!(" t{id}"));
            ends.push(text.len());
        }
        TokenRow { text, ends, ..TokenRow::default() }
    };
    TokenRows { name: input.name.clone(), rows: input.rows.iter().map(row).collect() }
}

/// Largest difference of two tensors as a share of the largest finite value of the second.
#[track_caller]
pub(crate) fn apart(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(f64::MIN_POSITIVE, |most, x| x.abs().max(most));
    let apart = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() / largest };
    // NaN is far from everything
    found.iter().zip(&expected).map(apart).fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
}

#[track_caller]
pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, share: f64, what: &str) {
    let apart = apart(found, expected);
    assert!(apart <= share, "{what}: they are {apart} apart");
}

/// Whether two results are equal to the bit.
pub(crate) fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let bits = |tensor: &Tensor| -> Vec<u64> { numbers(tensor).into_iter().map(f64::to_bits).collect() };
    a.dims() == b.dims() && a.dtype() == b.dtype() && bits(a) == bits(b)
}
