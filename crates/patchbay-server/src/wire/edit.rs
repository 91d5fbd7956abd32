//! Edits that a caller keeps: as they are put and listed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::trace::{Graph, Rows};
use crate::edits::KeptEdit;

/// An edit as it is put. It is parsed by `patchbay_graph::Edit`, whose errors point into it; this is its picture in the
/// contract.
#[derive(ToSchema)]
#[schema(example = json!({
    "model": "smollm2",
    "graph": [{"op": "steer", "layers": [10], "vector": "@joy", "factor": "{factor}"}],
    "parameters": {"factor": {"default": 1, "min": 0, "max": 8}}
}))]
pub struct EditRequest {
    /// The model that it is checked against; may be left out where the server has only one.
    pub model: Option<String>,
    /// What it writes: nodes, or their text form. It saves nothing and names no input: it acts on all of them.
    pub graph: Graph,
    /// Numbers by name, which requests may give other values in `edit_args`. `{name}` in the graph's strings stands for one.
    pub parameters: Option<BTreeMap<String, Parameter>>,
    /// An input that it is checked on, for an edit that takes prompts of a certain form only.
    pub input: Option<Rows>,
    /// What it is for.
    pub description: Option<String>,
}

/// A number of an edit.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"default": 1, "min": 0, "max": 8}))]
pub enum Parameter {
    /// Its default.
    Default(f64),
    /// Its default, and what values it takes.
    Bounded {
        /// What it is where a request says nothing.
        default: f64,
        /// The least that it may be.
        min: Option<f64>,
        /// The most that it may be.
        max: Option<f64>,
    },
}

/// The caller's edits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EditList {
    /// Always `list`.
    #[schema(value_type = String, example = "list")]
    pub object: &'static str,
    /// The edits, by name.
    pub data: Vec<EditView>,
}

/// What an edit is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "calm", "etag": "\"5a1e0c6f3b7d9e42\"", "model": "smollm2", "parameters": {"factor": {"default": 1, "min": 0, "max": 8}}
}))]
pub struct EditView {
    /// Its name: `"model": "smollm2+name"` runs the model with it.
    pub name: String,
    /// Its version, which is also the header `ETag`.
    pub etag: String,
    /// The model that it was checked against.
    pub model: String,
    /// Its numbers, as they were declared.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<BTreeMap<String, Parameter>>)]
    pub parameters: Value,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl EditView {
    /// Of an edit under a name.
    pub fn new(name: &str, kept: &KeptEdit) -> Self {
        let KeptEdit { body, etag, model, .. } = kept;
        Self {
            name: name.to_owned(),
            etag: etag.clone(),
            model: model.clone(),
            parameters: body.get("parameters").cloned().unwrap_or_default(),
            description: body.get("description").and_then(Value::as_str).map(String::from),
        }
    }
}
