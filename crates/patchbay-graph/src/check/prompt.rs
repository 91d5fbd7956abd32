//! How likely a prompt's own tokens are: nodes that a generation has beside those of its graph.

use serde_json::json;

use crate::node::{Action, Node};
use crate::problem::Result;
use crate::request::{ONLY_INPUT, Request};
use crate::steps::Steps;

/// What the results of such nodes begin with; the row's number follows.
pub const PROMPT_LOGPROBS: &str = "\0prompt.";
/// The same for the likeliest tokens at each place.
pub const PROMPT_TOP: &str = "\0top.";

/// Adds nodes to a generation's request for the logarithms of the probabilities of a row's tokens but the first, `[T - 1, 1]`, and the
/// `count` likeliest tokens at their places, of the first input. A row of one token has none.
///
/// # Errors
/// None that a request could bring about.
pub fn score_prompt(request: &mut Request, row: usize, ids: &[u32], count: usize) -> Result<()> {
    let Some((_, targets)) = ids.split_first().filter(|(_, targets)| !targets.is_empty()) else { return Ok(()) };
    let targets: Vec<[u32; 1]> = targets.iter().map(|id| [*id]).collect();
    let input = request.inputs.first().map_or(ONLY_INPUT, |input| &input.name);
    let logits = format!("{input}/logits[{row}, :-1]");
    let target = json!({"op": "gather", "args": [logits, -1, targets]});
    let total = json!({"op": "logsumexp", "args": [logits, [-1], true]});
    let scored = json!({"op": "save", "value": {"op": "sub", "args": [target, total]}, "as": "scored"});
    let top = json!({"op": "top_tokens", "value": logits, "k": count, "as": "top"});
    let body = json!({"inputs": {input: [[0]]}, "graph": if count > 0 { vec![scored, top] } else { vec![scored] }});
    for node in Request::parse(&body)?.graph {
        let action = match node.action {
            Action::Save { value, .. } => {
                Action::Save { value, name: Some(format!("{PROMPT_LOGPROBS}{row}")), to: None }
            }
            Action::TopTokens { value, k, .. } => Action::TopTokens { value, k, name: format!("{PROMPT_TOP}{row}") },
            other => other,
        };
        let at = "/prompt_logprobs".to_owned();
        request.graph.push(Node { at, id: None, steps: Some(Steps::Prompt), action });
    }
    Ok(())
}
