//! Jobs as answers tell of them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::ProblemDetails;

/// A request that runs without anybody waiting for it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Job, example = json!({
    "id": "job-2f8a0f1c", "kind": "trace", "status": "running", "done": 12, "of": 240, "created": 1764500000
}))]
pub struct JobBody {
    /// Its name.
    pub id: String,
    /// What it is: `trace`, `generate`, or the name of a recipe.
    pub kind: String,
    /// `running`, `done`, `failed` or `cancelled`.
    pub status: &'static str,
    /// How many of its parts have run: cells of a sweep, tokens of a generation, prompts of a recipe that runs in parts, or the whole.
    pub done: usize,
    /// How many there are.
    pub of: usize,
    /// When it came, in seconds since 1970.
    pub created: u64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Seconds until its result is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ProblemDetails>,
}

/// The caller's jobs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobList {
    /// Always `list`.
    #[schema(value_type = String, example = "list")]
    pub object: &'static str,
    /// The jobs, oldest first.
    pub data: Vec<JobBody>,
}
