//! From a source to a model that takes requests.

use std::sync::Arc;
use std::time::Instant;

use patchbay_checkpoint::{CheckpointError, ProgressEvent, Source};
use patchbay_engine::{Engine, EngineSettings};
use patchbay_model::{Check, Decoder, LoadOptions, run_checks};

use crate::Failure;
use crate::device::{DeviceChoice, DtypeChoice};
use crate::memory::Budget;
use crate::model::{Loaded, Model, State};
use crate::settings::Settings;
use crate::wire::model::{LoadProgress, LoadRequest, ModelFacts};
use crate::wire::proof::ProofView;
use crate::wire::tree::TreeResponse;

/// The target under which it is logged that a load failed, for those who say so in another way.
pub const FAILED_LOAD: &str = "patchbay_server::failed_load";

/// What to load, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Where it comes from.
    pub source: Source,
    /// Where it runs.
    pub device: DeviceChoice,
    /// What its matrices are kept as.
    pub dtype: DtypeChoice,
}

impl LoadPlan {
    /// What a request asks for; what it leaves out is as the settings say.
    ///
    /// # Errors
    /// Status 422 where the source, the device or the type cannot be.
    pub fn new(request: &LoadRequest, settings: &Settings) -> Result<Self, Failure> {
        let source = Source::parse(&request.source).map_err(|error| match error {
            CheckpointError::Source { text, reason } => {
                let failure = Failure::new(422, "bad_source", format!("`{text}` names no model: {reason}"));
                failure.hint("give a folder with a config.json, a .gguf file, or a Hub id `org/name[@revision]`")
            }
            error => Failure::new(422, "bad_source", error.to_string()),
        });
        let source = source.map_err(|failure| failure.at("/source"))?;
        let device = request.device.as_deref().map(str::parse).transpose().map_err(|e: Failure| e.at("/device"))?;
        let dtype = request.dtype.as_deref().map(str::parse).transpose().map_err(|e: Failure| e.at("/dtype"))?;
        Ok(Self { source, device: device.unwrap_or(settings.device), dtype: dtype.unwrap_or(settings.dtype) })
    }
}

/// Loads `model` on a thread of its own and tells it how that goes.
pub(crate) fn start(model: Arc<Model>, settings: &Settings, budget: &Budget) {
    let (settings, budget) = (settings.clone(), budget.clone());
    let thread = std::thread::Builder::new().name(format!("load {}", model.name));
    let watched = Arc::clone(&model);
    let work = move || {
        let name = &model.name;
        tracing::info!(model = %name, source = %model.plan.source, "loading");
        let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| load(&model, &settings, &budget)));
        match loaded.unwrap_or_else(|_| Err("the load panicked; the log has more".to_owned())) {
            Ok(loaded) => {
                tracing::info!(model = %name, ms = loaded.facts.load_ms, checks_passed = loaded.facts.checks_passed, "ready");
                budget.look();
                model.set(State::Ready(Arc::new(loaded)));
            }
            Err(reason) => {
                tracing::error!(target: FAILED_LOAD, model = %name, %reason, "loading failed");
                model.set(State::Failed(reason));
            }
        }
    };
    if let Err(error) = thread.spawn(work) {
        watched.set(State::Failed(format!("no thread could be started: {error}")));
    }
}

fn load(model: &Model, settings: &Settings, budget: &Budget) -> Result<Loaded, String> {
    let begin = Instant::now();
    let progress = |event: ProgressEvent| {
        let ProgressEvent { stage, what, done, total } = event;
        model.set(State::Loading(LoadProgress { stage, what, done, total }));
    };
    let device = model.plan.device.open().map_err(|failure| failure.to_string())?;
    let checkpoint =
        patchbay_checkpoint::open(&model.plan.source, &settings.hub, &progress).map_err(|error| error.to_string())?;
    let architecture = checkpoint.config.model_type().map_err(|error| error.to_string())?.to_owned();
    let precision = model.plan.dtype.precision();
    let most = settings.max_load_bytes;
    if device.is_cpu() || most.is_some() {
        let spec = patchbay_model::describe(&checkpoint.config).map_err(|error| error.to_string())?;
        crate::memory::fits(patchbay_model::parameters(&spec, &checkpoint.weights), precision, most)?;
    }
    let options = LoadOptions { device, precision, plain: false };
    let decoder = Decoder::load(&checkpoint, &options, &progress).map_err(|error| error.to_string())?;
    progress(ProgressEvent { stage: "checks", what: model.name.clone(), done: 0, total: 0 });
    let checks = run_checks(&decoder, checkpoint.tokenizer.as_ref());
    for check in checks.checks.iter().filter(|check| !check.passed) {
        tracing::warn!(model = %model.name, check = %check.name, detail = %check.detail, "a check failed");
    }
    let tree = decoder.tree();
    let sites = TreeResponse::new(model.name.clone(), tree);
    let proof = ProofView::new(&architecture, patchbay_model::proofs().get(&architecture), &sites);
    let failed = |check: &Check| format!("the load-time check `{}` failed: {}", check.name, check.detail);
    let failed = checks.checks.iter().filter(|check| !check.passed).map(failed);
    let warnings = decoder.warnings().iter().cloned().chain(proof.warning()).chain(failed).collect();
    let first = tree.layers.first();
    let facts = ModelFacts {
        architecture,
        parameters: decoder.parameters(),
        bytes: decoder.bytes(),
        dtype: precision.name().to_owned(),
        device: device_name(decoder.device()),
        context: tree.context,
        layers: tree.layers.len(),
        hidden: tree.hidden,
        heads: first.map_or(0, |layer| layer.heads),
        kv_heads: first.map_or(0, |layer| layer.kv_heads),
        vocab: tree.vocab,
        tokenizer: checkpoint.tokenizer.is_some(),
        chat_template: checkpoint.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.chat_template().is_some()),
        checks_passed: checks.checks.iter().all(|check| check.passed),
        load_ms: begin.elapsed().as_secs_f64() * 1e3,
    };
    let memory = if decoder.device().is_cpu() { budget.memory().clone() } else { budget.elsewhere() };
    let by_default = EngineSettings::default();
    let queue = settings.queue.unwrap_or(by_default.queue);
    let prefix_bytes = settings.prefix_cache.unwrap_or(by_default.prefix_bytes);
    let engine = Engine::start(Arc::new(decoder), EngineSettings { queue, memory, prefix_bytes, ..by_default });
    let stop_ids = match &checkpoint.tokenizer {
        Some(tokenizer) => tokenizer.stop_ids().to_vec(),
        None => checkpoint.config.token_ids("eos_token_id"),
    };
    let tokenizer = checkpoint.tokenizer.map(Arc::new);
    let vocabulary = Default::default();
    Ok(Loaded { engine, tokenizer, stop_ids, vocabulary, checks, proof, warnings, facts })
}

fn device_name(device: &candle_core::Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}
