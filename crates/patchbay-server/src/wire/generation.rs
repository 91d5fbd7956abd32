//! What a generation is asked for and answered with, beside what a trace is.

use std::collections::BTreeMap;

use patchbay_checkpoint::Tokenizer;
use patchbay_generate::{NewToken, Output, Scored};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::result::number;
use super::trace::{Graph, NumberSchema, OutputOptions, Rows};

/// The body of a generation. It is parsed by `patchbay_graph::Request` and `patchbay_generate::Settings`, whose errors point
/// into it; this is its picture in the contract.
#[derive(ToSchema)]
#[schema(example = json!({
    "model": "smollm2",
    "input": "The capital of France is",
    "max_new_tokens": 8,
    "graph": [{"op": "steer", "layers": [10], "vector": "@joy", "factor": 0.5, "steps": "new"}]
}))]
pub struct GenerateRequest {
    /// The model; may be left out where the server has only one. `smollm2+calm+terse` runs it with edits.
    pub model: Option<String>,
    /// Values of the edits' parameters, by edit: `{"calm": {"factor": 2}}`.
    pub edit_args: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    /// The prompts; of a generation that goes on with a session, what comes behind it, which may be nothing.
    pub input: Option<Rows>,
    /// Several inputs by name, instead of `input`, for graphs that take from one what they put into another in the prompt's pass.
    pub inputs: Option<BTreeMap<String, Rows>>,
    /// The input of which text is generated, where there are several; the others are there in step 0 alone.
    pub grow: Option<String>,
    /// The session to go on with: its id, or `{"id": …, "row": 0, "at": 12}` for one of its rows, or from behind its first 12 tokens.
    pub session: Option<Value>,
    /// Keeps the sequences and their keys for later generations to go on with: true, or for how many seconds, 3600 at most.
    pub keep: Option<Value>,
    /// The nodes, or their text form; each node may have `steps`, at which it acts: `"all"`, `"prompt"`, `"new"`, a step's number,
    /// a list of them, or `{"from": a, "to": b}`. Step 0 is the pass over the prompt.
    pub graph: Option<Graph>,
    /// New tokens of each row at most; 20 where nothing is said, or as many as there is room for.
    #[schema(minimum = 1, example = 20)]
    pub max_new_tokens: Option<usize>,
    /// New tokens of each row before a token that ends the text may come.
    pub min_new_tokens: Option<usize>,
    /// What logits are divided by; 0, where nothing is said, takes the likeliest token.
    #[schema(minimum = 0, example = 0.7)]
    pub temperature: Option<f64>,
    /// Only so many of the likeliest tokens may be taken; 0 for all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities add up to this may be taken.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Only tokens may be taken that are this likely, measured by the likeliest.
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// Logits of tokens of the prompt and of new ones are divided by this where positive, multiplied where negative.
    pub repetition_penalty: Option<f64>,
    /// What is taken from the logits of new tokens.
    pub presence_penalty: Option<f64>,
    /// What is taken from the logits of new tokens as often as they came.
    pub frequency_penalty: Option<f64>,
    /// What is added to the logits of tokens, by id.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// The seed of sampling; one is drawn, and told, where nothing is said.
    pub seed: Option<u64>,
    /// Samples of each row.
    #[schema(minimum = 1)]
    pub n: Option<usize>,
    /// Texts or token ids that end a row; a text is not part of the output.
    pub stop: Option<Value>,
    /// Whether rows go on behind the model's own end of text.
    pub ignore_eos: Option<bool>,
    /// Tells the logarithm of each new token's probability, and those of so many of the likeliest ones.
    #[schema(maximum = 20)]
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompts, each behind those before it.
    #[schema(maximum = 20)]
    pub prompt_logprobs: Option<usize>,
    /// What the new text has to be: `{"json_schema": {…}}`, `{"json": true}`, `{"regex": "…"}`, `{"choice": ["yes", "no"]}` or
    /// `{"lark": "…"}`, a grammar.
    pub constraint: Option<Value>,
    /// Answers with server-sent events while it runs.
    pub stream: Option<bool>,
    /// How the answer is written.
    pub output: Option<OutputOptions>,
    /// Answers with a job as soon as it was let in: `GET /v1/jobs/{id}/result` has what comes of it.
    pub r#async: Option<bool>,
    /// Milliseconds that all of it may take; then it is stopped, and answered with 504.
    #[schema(minimum = 1, example = 60000)]
    pub timeout_ms: Option<u64>,
}

/// The new tokens of a row.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Output, example = json!({
    "text": " Paris.", "ids": [7042, 30], "tokens": [" Paris", "."], "finish_reason": "length"
}))]
pub struct OutputBody {
    /// Their text, without special tokens and without the text that ended it; null where the model has no tokenizer.
    pub text: Option<String>,
    /// Their ids, with the one that ended the row.
    pub ids: Vec<u32>,
    /// Each token's text; absent where the model has no tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<String>>,
    /// `stop` where a token or a text ended the row, `length` where it has all its tokens.
    pub finish_reason: &'static str,
    /// How likely each token was, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// How likely each token of the prompt was, where that was asked for; null for the first one, which has nothing before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<Vec<Option<TokenLogprob>>>,
}

/// How likely a token was, by the model's logits before they are changed for sampling.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"id": 7042, "logprob": -0.34, "top": [{"id": 7042, "logprob": -0.34}]}))]
pub struct TokenLogprob {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability.
    #[serde(serialize_with = "number")]
    #[schema(value_type = NumberSchema)]
    pub logprob: f64,
    /// The likeliest tokens, best first.
    pub top: Vec<LikelyToken>,
}

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LikelyToken {
    /// Its id.
    pub id: u32,
    /// Its text; null where the model has no tokenizer.
    pub text: Option<String>,
    /// Natural logarithm of its probability.
    #[serde(serialize_with = "number")]
    #[schema(value_type = NumberSchema)]
    pub logprob: f64,
}

/// A token of a row, as it is told while the generation runs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"row": 0, "id": 7042, "text": " Paris"}))]
pub struct TokenEvent {
    /// The row.
    pub row: usize,
    /// Its id.
    pub id: u32,
    /// The text that it adds; what may be the beginning of a text that ends the row comes when it is certain.
    pub text: String,
    /// Why the row ends with it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<&'static str>,
    /// How likely it was, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob: Option<TokenLogprob>,
}

impl OutputBody {
    /// Of a row.
    pub fn new(output: Output, tokenizer: Option<&Tokenizer>, with_logprobs: bool) -> Self {
        let Output { ids, text, finish, scored } = output;
        let tokens = tokenizer.map(|tokenizer| ids.iter().map(|id| tokenizer.token_text(*id)).collect());
        let logprobs =
            with_logprobs.then(|| scored.iter().map(|scored| TokenLogprob::new(scored, tokenizer)).collect());
        Self { text, ids, tokens, finish_reason: finish.name(), logprobs, prompt_logprobs: None }
    }
}

impl TokenLogprob {
    pub(crate) fn new((scored, top): &(Scored, Vec<Scored>), tokenizer: Option<&Tokenizer>) -> Self {
        let likely = |scored: &Scored| LikelyToken {
            id: scored.id,
            text: tokenizer.map(|tokenizer| tokenizer.token_text(scored.id)),
            logprob: scored.logprob,
        };
        Self { id: scored.id, logprob: scored.logprob, top: top.iter().map(likely).collect() }
    }
}

impl TokenEvent {
    /// Of a token.
    pub fn new(token: &NewToken, tokenizer: Option<&Tokenizer>) -> Self {
        Self {
            row: token.row,
            id: token.id,
            text: token.text.clone(),
            finish_reason: token.finish.map(|finish| finish.name()),
            logprob: token.scored.as_ref().map(|scored| TokenLogprob::new(scored, tokenizer)),
        }
    }
}
