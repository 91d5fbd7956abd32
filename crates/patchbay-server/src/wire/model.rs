//! The description of a model: OpenAI's, with more in it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::proof::ProofView;

/// Every model of the server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    #[schema(value_type = String, example = "list")]
    pub object: &'static str,
    /// The models, by name.
    pub data: Vec<ModelView>,
}

/// A model.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "smollm2", "object": "model", "created": 1760000000, "owned_by": "patchbay", "status": "ready",
    "source": "HuggingFaceTB/SmolLM2-135M-Instruct", "architecture": "llama", "parameters": 134515008,
    "bytes": 538060032, "dtype": "f32", "device": "cpu", "context": 2048, "layers": 30, "hidden": 576, "heads": 9,
    "kv_heads": 3, "vocab": 49152, "tokenizer": true, "chat_template": true, "checks_passed": true, "load_ms": 812.5
}))]
pub struct ModelView {
    /// Its name.
    pub id: String,
    /// Always `model`.
    #[schema(value_type = String)]
    pub object: &'static str,
    /// When it was asked for, in seconds since 1970.
    pub created: u64,
    /// Always `patchbay`.
    #[schema(value_type = String)]
    pub owned_by: &'static str,
    /// `loading`, `ready` or `failed`.
    pub status: Status,
    /// Where it comes from.
    pub source: String,
    /// How far the load is, while it is `loading`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<LoadProgress>,
    /// Why the load failed, where it is `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Sizes and more, once it is `ready`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ModelFacts>,
}

/// Where a model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being read.
    Loading,
    /// Taking requests.
    Ready,
    /// Not to be had.
    Failed,
}

/// How far a load is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"stage": "weights", "what": "model.safetensors", "done": 1048576, "total": 538060032}))]
pub struct LoadProgress {
    /// Which part of the load.
    #[schema(value_type = String)]
    pub stage: &'static str,
    /// What is being worked on.
    pub what: String,
    /// How much of it is done, in bytes where the stage counts bytes.
    pub done: u64,
    /// How much there is; 0 where that is not known.
    pub total: u64,
}

/// What is known of a model once it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ModelFacts {
    /// The `model_type` of its configuration.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weights in memory.
    pub bytes: u64,
    /// Type that the weights are computed in.
    pub dtype: String,
    /// Where it runs.
    pub device: String,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads of the first block.
    pub heads: usize,
    /// Key/value heads of the first block.
    pub kv_heads: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Whether it takes text.
    pub tokenizer: bool,
    /// Whether it takes conversations.
    pub chat_template: bool,
    /// Whether every check made at the load passed.
    pub checks_passed: bool,
    /// Milliseconds that the load took, checks included.
    pub load_ms: f64,
}

/// A model to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"source": "HuggingFaceTB/SmolLM2-135M-Instruct"}))]
pub struct LoadRequest {
    /// A folder in the Hugging Face layout, a `.gguf` file, or a Hub id `org/name[@revision]`.
    pub source: String,
    /// `auto`, `f32`, `bf16`, `f16`, `q8_0` or `q4_k`; the server's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`; the server's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What the checks at a load found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChecksResponse {
    /// The model.
    pub model: String,
    /// Whether every check passed.
    pub passed: bool,
    /// The checks.
    pub checks: Vec<CheckView>,
    /// What is proven of the architecture.
    pub proof: ProofView,
    /// What every answer of this model warns of.
    pub warnings: Vec<String>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"name": "attention_rows", "passed": true, "detail": "every row sums to 1 within 1e-5"}))]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}
