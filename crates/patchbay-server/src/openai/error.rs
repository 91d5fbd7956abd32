//! Errors in OpenAI's shape.

use serde::Serialize;
use utoipa::ToSchema;

use super::Kind;
use crate::{Failure, ProblemDetails};

/// The body of an error on OpenAI's routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OpenAiError, example = json!({"error": {
    "message": "there is no model `gpt-9` (hint: the models are smollm2)", "type": "invalid_request_error", "param": "model",
    "code": "unknown_model"
}}))]
pub(crate) struct ErrorBody {
    /// The error.
    pub error: ErrorDetails,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OpenAiErrorDetails)]
pub(crate) struct ErrorDetails {
    /// What was found and what was expected, and how to mend it.
    pub message: String,
    /// `invalid_request_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field, its parts joined by dots.
    pub param: Option<String>,
    /// The kind, for programs.
    pub code: String,
}

/// The same failure, with its place in the body of this endpoint instead of in that of the generation.
pub(crate) fn placed(kind: Kind, failure: Failure) -> Failure {
    let (input, tokens) = match kind {
        Kind::Chat => ("/messages", "/max_completion_tokens"),
        Kind::Text => ("/prompt", "/max_tokens"),
    };
    let constraint: &[(&str, &str)] = match kind {
        Kind::Chat => &[
            ("/constraint/json_schema", "/response_format/json_schema/schema"),
            ("/constraint/lark", "/tools"),
            ("/constraint", "/response_format"),
        ],
        Kind::Text => &[],
    };
    let names = [
        // the messages are a field of the input
        ("/input/messages", input),
        ("/input", input),
        ("/max_new_tokens", tokens),
        ("/prompt_logprobs", "/logprobs"),
        ("/graph", "/patchbay/graph"),
        ("/output", "/patchbay/output"),
        ("/session", "/patchbay/session"),
        ("/keep", "/patchbay/keep"),
    ];
    let pointer = failure.pointer.as_deref().map(|pointer| {
        let name = names.iter().chain(constraint).find_map(|(field, name)| Some((pointer.strip_prefix(field)?, name)));
        name.map_or_else(|| pointer.to_owned(), |(rest, name)| format!("{name}{rest}"))
    });
    Failure { pointer, ..failure }
}

impl From<ProblemDetails> for ErrorBody {
    fn from(problem: ProblemDetails) -> Self {
        let ProblemDetails { status, detail, code, pointer, hint, .. } = problem;
        let message = match hint {
            Some(hint) => format!("{detail} (hint: {hint})"),
            None => detail,
        };
        let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
        Self { error: ErrorDetails { message, kind, param: pointer.as_deref().map(param), code } }
    }
}

fn param(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_names() {
        let found = |pointer: &str| {
            let failure = Failure::new(422, "bad_argument", "no").at(pointer).hint("yes");
            ErrorBody::from(placed(Kind::Chat, failure).to_problem()).error
        };
        assert_eq!(found("/max_new_tokens").param.as_deref(), Some("max_completion_tokens"));
        assert_eq!(found("/graph/0/value").param.as_deref(), Some("patchbay.graph.0.value"));
        assert_eq!(found("/input/messages").param.as_deref(), Some("messages"));
        assert_eq!(found("").param, None);
        assert_eq!((found("/n").message.as_str(), found("/n").kind), ("no (hint: yes)", "invalid_request_error"));
        assert_eq!(ErrorBody::from(Failure::new(503, "queue_full", "x").to_problem()).error.kind, "server_error");
    }
}
