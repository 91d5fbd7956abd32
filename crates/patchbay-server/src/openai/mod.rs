//! OpenAI's endpoints: chat and completions as generations, embeddings as traces.
//!
//! A body is turned into one of `/v1/generate` ([`asked`]), and what comes of that is written in OpenAI's forms ([`answered`]). A field
//! `patchbay` adds a graph, whose results come back under the same name. Errors have OpenAI's shape too ([`error`]).

pub(crate) mod answered;
pub(crate) mod asked;
pub(crate) mod calls;
pub(crate) mod dialect;
pub(crate) mod embedding;
pub(crate) mod error;
mod format;
pub(crate) mod tools;

/// Which of the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}
