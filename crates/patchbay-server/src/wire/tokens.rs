//! Text and tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::trace::Rows;

/// Text to turn into tokens.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"model": "smollm2", "input": "The capital of France is"}))]
pub struct TokenizeRequest {
    /// The model; may be left out where the server has only one.
    pub model: Option<String>,
    /// What to tokenize, in any of the forms a trace's `input` has.
    #[schema(value_type = Rows)]
    pub input: serde_json::Value,
}

/// The tokens of each row.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "model": "smollm2",
    "ids": [[504, 3575, 282, 4649, 314]],
    "tokens": [["The", " capital", " of", " France", " is"]],
    "lengths": [5]
}))]
pub struct TokenizeResponse {
    /// The model.
    pub model: String,
    /// The tokens.
    #[serde(flatten)]
    pub rows: InputTokens,
}

/// The tokens of one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InputTokens {
    /// Token ids, one list a row.
    pub ids: Vec<Vec<u32>>,
    /// Each token's text; absent where the model has no tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<Vec<String>>>,
    /// Number of tokens of each row.
    pub lengths: Vec<usize>,
}

/// Tokens to turn into text.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"model": "smollm2", "ids": [[504, 3575, 282, 4649, 314]]}))]
pub struct DetokenizeRequest {
    /// The model; may be left out where the server has only one.
    pub model: Option<String>,
    /// Token ids, one list a row.
    pub ids: Vec<Vec<u32>>,
    /// Whether special tokens, such as the end of a text, are left out.
    #[serde(default)]
    pub skip_special_tokens: bool,
}

/// The text of each row.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "model": "smollm2",
    "text": ["The capital of France is"],
    "tokens": [["The", " capital", " of", " France", " is"]]
}))]
pub struct DetokenizeResponse {
    /// The model.
    pub model: String,
    /// One text a row.
    pub text: Vec<String>,
    /// The text of each token alone.
    pub tokens: Vec<Vec<String>>,
}
