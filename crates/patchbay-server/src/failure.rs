//! Why a request was not answered, in the one form that every endpoint and the command line share.

use std::fmt;

use patchbay_engine::EngineError;
use patchbay_graph::Problem;
use patchbay_graph::problem::shorten;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A refusal: what was found, what was expected, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// Stable name of the kind, in snake case.
    pub code: String,
    /// What was found and what was expected.
    pub detail: String,
    /// JSON pointer (RFC 6901) to the offending field of the body.
    pub pointer: Option<String>,
    /// Line and column of a graph that came as text, from 1.
    pub place: Option<(usize, usize)>,
    /// How to mend it.
    pub hint: Option<String>,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// A failure of the given kind. What a request quotes at length is cut short.
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.into(), shorten(detail.into(), LONGEST_MESSAGE));
        Self { status, code, detail, pointer: None, place: None, hint: None, retry_after: None }
    }

    /// A fault of the server, not of the request.
    pub fn internal(error: impl fmt::Display) -> Self {
        tracing::error!(%error, "internal error");
        let said = error.to_string();
        // what follows may be a backtrace, which is for the log alone
        let first = said.lines().next().unwrap_or_default();
        Self::new(500, "internal", format!("the server failed: {first}"))
            .hint("the request did not cause it; the server's log has more")
    }

    /// Adds a way to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shorten(hint.into(), LONGEST_MESSAGE));
        self
    }

    /// Adds the place in the body.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into()).filter(|pointer| !pointer.is_empty());
        self
    }

    /// Adds the time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The nearest of the names that would have been right as a hint, or all of them where they are few.
    #[must_use]
    pub fn suggest<'a>(self, found: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = Problem::new(patchbay_graph::Code::Malformed, "").suggest(found, names).hint;
        Self { hint: hint.or(self.hint), ..self }
    }

    /// The body that says so.
    pub fn to_problem(&self) -> ProblemDetails {
        ProblemDetails {
            kind: format!("urn:patchbay:problem:{}", self.code),
            title: sentence(&self.code),
            status: self.status,
            detail: self.detail.clone(),
            code: self.code.clone(),
            pointer: self.pointer.clone(),
            line: self.place.map(|(line, _)| line),
            column: self.place.map(|(_, column)| column),
            hint: self.hint.clone(),
        }
    }
}

/// The code of a request whose time is over.
pub(crate) const TIMED_OUT: &str = "timed_out";

/// Characters of a message.
const LONGEST_MESSAGE: usize = 1000;

/// `unknown_site` → `Unknown site`.
fn sentence(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The body of every answer that is not a success: problem details as RFC 9457 has them, with a code, a JSON pointer and
/// a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:patchbay:problem:unknown_site",
    "title": "Unknown site",
    "status": 422,
    "detail": "there is no layer 99",
    "code": "unknown_site",
    "pointer": "/graph/0/value",
    "hint": "this model has layers 0 to 29"
}))]
pub struct ProblemDetails {
    /// The kind, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was found and what was expected.
    pub detail: String,
    /// The kind, for programs.
    pub code: String,
    /// JSON pointer (RFC 6901) to the offending field of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Line of a graph that came as text, from 1. The detail shows the line, with a caret under the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column of that line in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<ProblemDetails> for Failure {
    fn from(problem: ProblemDetails) -> Self {
        let ProblemDetails { status, code, detail, pointer, line, column, hint, .. } = problem;
        Self { status, code, detail, pointer, place: line.zip(column), hint, retry_after: None }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let failure = Self::new(problem.code.status(), problem.code.name(), problem.detail).at(problem.pointer);
        Self { hint: problem.hint, place: problem.line.zip(problem.column), ..failure }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Full { work } => {
                // by an hour at most, what is known of the queue has changed
                let seconds = work.as_secs_f64().ceil().clamp(1.0, 3600.0) as u32;
                Self::new(503, "queue_full", "as many requests as may wait are waiting")
                    .hint("ask again after a while; the server's setting is `queue`")
                    .retry_after(seconds)
            }
            EngineError::TimedOut => Self::new(504, TIMED_OUT, "the request's time is over"),
            EngineError::Stopped => Self::new(503, "model_unloaded", "the model was unloaded").retry_after(5),
            EngineError::Cancelled => Self::new(503, "cancelled", "the request was cancelled"),
            EngineError::Refused(problem) => problem.into(),
            error @ EngineError::Failed(_) => Self::internal(error),
        }
    }
}

impl fmt::Display for Failure {
    /// Detail, pointer and hint, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        if let Some(pointer) = &self.pointer {
            write!(f, "\n   at: {pointer}")?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n hint: {hint}"))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_graph::Code;

    #[test]
    fn a_graph_problem_keeps_everything_it_says() {
        let problem = Problem::new(Code::UnknownSite, "no layer 99").hint("0 to 29").at("/graph/0");
        let details = Failure::from(problem).to_problem();
        assert_eq!(
            (details.status, details.code.as_str(), details.title.as_str()),
            (422, "unknown_site", "Unknown site")
        );
        assert_eq!((details.pointer.as_deref(), details.hint.as_deref()), (Some("/graph/0"), Some("0 to 29")));
    }

    #[test]
    fn a_problem_in_a_text_has_its_place() {
        let problem = patchbay_graph::text::TextGraph::parse("save logits as x\nsave *").unwrap_err();
        let details = Failure::from(problem).to_problem();
        assert_eq!((details.line, details.column, details.pointer.as_deref()), (Some(2), Some(6), Some("/graph")));
        assert_eq!(details.detail, "expected a value, found `*`\n 2 | save *\n   |      ^");
        assert_eq!(Failure::from(details).place, Some((2, 6)));
    }

    #[test]
    fn an_empty_pointer_is_left_out() {
        let json = serde_json::to_value(Failure::new(400, "malformed", "x").at("").to_problem()).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["type", "title", "status", "detail", "code"]);
    }
}
