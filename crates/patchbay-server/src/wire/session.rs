//! Sessions as answers tell of them.

use serde::Serialize;
use utoipa::ToSchema;

/// A session: sequences whose keys are kept, so that later generations go on with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Session, example = json!({
    "id": "session-2f8a0f1c", "model": "smollm2", "lengths": [25], "bytes": 1474560, "expires_in": 600
}))]
pub struct SessionBody {
    /// Its name.
    pub id: String,
    /// The model, with the edits that it was run with.
    pub model: String,
    /// Number of tokens of each row, those of the prompt and the new ones.
    pub lengths: Vec<usize>,
    /// Bytes that its keys and values take.
    pub bytes: u64,
    /// Seconds until it is forgotten, if nobody goes on with it.
    pub expires_in: u64,
}

/// A session and its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SessionTokens {
    /// The session.
    #[serde(flatten)]
    pub session: SessionBody,
    /// Token ids of each row.
    pub ids: Vec<Vec<u32>>,
    /// Each token's text; absent where the model has no tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<Vec<String>>>,
}

/// The caller's sessions.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionList {
    /// Always `list`.
    #[schema(value_type = String, example = "list")]
    pub object: &'static str,
    /// The sessions, by name.
    pub data: Vec<SessionBody>,
}
