//! Answers in OpenAI's forms.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use patchbay_checkpoint::Tokenizer;
use serde_json::{Value, json};

use super::Kind;
use super::asked::Asked;
use super::calls::{CallReader, RowText};
use super::dialect::Call;
use crate::Failure;
use crate::generation::Told;
use crate::wire::generation::{LikelyToken, OutputBody, TokenEvent, TokenLogprob};
use crate::wire::trace::TraceResponse;

/// Writes what comes of one request.
pub(crate) struct Writer {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    tokenizer: Option<Arc<Tokenizer>>,
    tells_usage: bool,
    looks_inside: bool,
    prompts: Vec<Vec<u32>>,
    samples: usize,
    /// Prompts to put before the texts, each for as many rows as there are samples.
    echoes: Vec<String>,
    drops: bool,
    calls: Option<CallReader>,
    /// Whether each row has begun, and what it has said where there may be calls in it.
    rows: Vec<(bool, RowText)>,
}

impl Writer {
    pub(crate) fn new(
        asked: &Asked,
        id: &str,
        model: &str,
        tokenizer: Option<Arc<Tokenizer>>,
        prompts: &[Vec<u32>],
    ) -> Self {
        let samples = asked.body.get("n").and_then(Value::as_u64).map_or(1, |n| n as usize);
        let text = |ids: &Vec<u32>| {
            let text = tokenizer.as_ref().and_then(|tokenizer| tokenizer.decode(ids, true).ok());
            text.unwrap_or_default()
        };
        let echoes = if asked.echoes { prompts.iter().map(text).collect() } else { Vec::new() };
        let prefix = if asked.kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            kind: asked.kind,
            id: format!("{prefix}-{}", id.rsplit('-').next().unwrap_or(id)),
            created,
            model: model.to_owned(),
            tells_usage: asked.tells_usage,
            looks_inside: asked.looks_inside,
            prompts: prompts.to_vec(),
            samples,
            echoes,
            drops: asked.drops,
            calls: asked.calls.clone(),
            rows: vec![Default::default(); prompts.len() * samples],
            tokenizer,
        }
    }

    /// The endpoint.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    fn body(&self, streamed: bool, choices: Value) -> Value {
        let object = match (self.kind, streamed) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Text, _) => "text_completion",
        };
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices})
    }

    fn echo(&self, row: usize) -> &str {
        self.echoes.get(row / self.samples).map_or("", String::as_str)
    }

    /// The whole answer.
    pub(crate) fn answer(&self, response: &TraceResponse) -> Result<Value, Failure> {
        let outputs = response.outputs.as_deref().unwrap_or_default();
        let choices = outputs.iter().enumerate().map(|(row, output)| self.choice(row, output));
        let mut body = self.body(false, choices.collect());
        body["usage"] = self.usage(response);
        if self.looks_inside {
            body["patchbay"] = inside(response)?;
        }
        Ok(body)
    }

    fn choice(&self, row: usize, output: &OutputBody) -> Value {
        let text = output.text.as_deref().filter(|_| !self.drops).unwrap_or_default();
        let scored = output.logprobs.as_deref().map(|scored| if self.drops { &[] } else { scored });
        match self.kind {
            Kind::Chat => {
                let (said, calls) = match &self.calls {
                    Some(reader) => reader.whole(&output.ids, text),
                    None => (text.to_owned(), Vec::new()),
                };
                let mut message = json!({"role": "assistant", "content": said, "refusal": null});
                if !calls.is_empty() {
                    message["tool_calls"] = calls.iter().map(Call::written).collect();
                    message["content"] = if said.is_empty() { Value::Null } else { json!(said) };
                }
                let finish = reason(output.finish_reason, &calls);
                let logprobs = scored.map(|scored| self.chat_logprobs(scored));
                json!({"index": row, "message": message, "logprobs": logprobs, "finish_reason": finish})
            }
            Kind::Text => {
                let prompt = output.prompt_logprobs.as_deref().unwrap_or_default();
                let first = self.first_tokens(row, prompt.len());
                let logprobs = scored.map(|scored| self.text_logprobs(first, prompt, scored));
                let text = format!("{}{text}", self.echo(row));
                json!({"index": row, "text": text, "logprobs": logprobs, "finish_reason": output.finish_reason})
            }
        }
    }

    /// The chunks that tell of something.
    pub(crate) fn chunks(&mut self, told: &Told) -> Result<Vec<Value>, Failure> {
        match told {
            Told::Token(token) => Ok(self.token(token)),
            Told::Saved(..) => Ok(Vec::new()),
            Told::Done(response) => {
                let mut chunks = Vec::new();
                if self.looks_inside {
                    let mut chunk = self.body(true, json!([]));
                    chunk["patchbay"] = inside(response)?;
                    chunks.push(chunk);
                }
                if self.tells_usage {
                    let mut chunk = self.body(true, json!([]));
                    chunk["usage"] = self.usage(response);
                    chunks.push(chunk);
                }
                Ok(chunks)
            }
        }
    }

    fn token(&mut self, token: &TokenEvent) -> Vec<Value> {
        let row = token.row;
        let Some((begun, said)) = self.rows.get_mut(row) else { return Vec::new() };
        let first = !std::mem::replace(begun, true);
        let (mut text, mut calls) = match &self.calls {
            Some(reader) => (reader.push(said, token.id, &token.text), Vec::new()),
            None if self.drops => Default::default(),
            None => (token.text.clone(), Vec::new()),
        };
        if let (Some(reader), Some(_)) = (&self.calls, token.finish_reason) {
            let (left, found) = reader.finish(said);
            (text, calls) = (text + &left, found);
        }
        let scored = token.logprob.as_ref().map(std::slice::from_ref);
        let mut chunks = Vec::new();
        if first && self.kind == Kind::Chat {
            let role = json!({"role": "assistant", "content": "", "refusal": null});
            chunks.push(self.chunk(row, ("delta", role), Value::Null, None));
        }
        let echo = if first { self.echo(row) } else { "" };
        let text = format!("{echo}{text}");
        if scored.is_some() || !text.is_empty() || (first && self.kind == Kind::Text) {
            let (content, logprobs) = match self.kind {
                Kind::Chat => (("delta", json!({"content": text})), scored.map(|scored| self.chat_logprobs(scored))),
                Kind::Text => (("text", json!(text)), scored.map(|scored| self.text_logprobs(None, &[], scored))),
            };
            chunks.push(self.chunk(row, content, json!(logprobs), None));
        }
        for (number, call) in calls.iter().enumerate() {
            let mut written = call.written();
            written["index"] = json!(number);
            chunks.push(self.chunk(row, ("delta", json!({"tool_calls": [written]})), Value::Null, None));
        }
        if let Some(finish) = token.finish_reason {
            let nothing = if self.kind == Kind::Chat { ("delta", json!({})) } else { ("text", json!("")) };
            chunks.push(self.chunk(row, nothing, Value::Null, Some(reason(finish, &calls))));
        }
        chunks
    }

    /// A chunk of one row, with its content under the name that it has.
    fn chunk(&self, row: usize, (name, content): (&str, Value), logprobs: Value, finish: Option<&str>) -> Value {
        self.body(true, json!([{"index": row, name: content, "logprobs": logprobs, "finish_reason": finish}]))
    }

    fn text_of(&self, id: u32) -> String {
        self.tokenizer.as_ref().map_or_else(String::new, |tokenizer| tokenizer.token_text(id))
    }

    fn chat_logprobs(&self, scored: &[TokenLogprob]) -> Value {
        let entry = |id: u32, logprob: f64| {
            let text = self.text_of(id);
            json!({"bytes": text.as_bytes(), "token": text, "logprob": finite(logprob)})
        };
        let token = |scored: &TokenLogprob| {
            let mut found = entry(scored.id, scored.logprob);
            found["top_logprobs"] = scored.top.iter().map(|token| entry(token.id, token.logprob)).collect();
            found
        };
        json!({"content": scored.iter().map(token).collect::<Vec<_>>(), "refusal": null})
    }

    /// The first token of a prompt whose tokens are told.
    fn first_tokens(&self, row: usize, told: usize) -> Option<u32> {
        let (ids, samples) = (&self.prompts, self.samples);
        ids.get(row / samples).filter(|_| told > 0).and_then(|ids| ids.first().copied())
    }

    /// Of the tokens of a prompt, of which nothing is known of the first, and of new ones.
    fn text_logprobs(&self, first: Option<u32>, prompt: &[Option<TokenLogprob>], scored: &[TokenLogprob]) -> Value {
        let known = || prompt.iter().flatten().chain(scored);
        let ids = first.into_iter().chain(known().map(|scored| scored.id));
        let tokens: Vec<String> = ids.map(|id| self.text_of(id)).collect();
        let top = |scored: &TokenLogprob| -> Value {
            let token = |token: &LikelyToken| (self.text_of(token.id), json!(finite(token.logprob)));
            scored.top.iter().map(token).collect::<serde_json::Map<_, _>>().into()
        };
        let nothing = || first.map(|_| Value::Null).into_iter();
        let offsets = tokens.iter().scan(0, |offset, token| {
            let before = *offset;
            *offset += token.chars().count();
            Some(before)
        });
        json!({
            "text_offset": offsets.collect::<Vec<_>>(), "tokens": tokens,
            "token_logprobs": nothing().chain(known().map(|scored| json!(finite(scored.logprob)))).collect::<Vec<_>>(),
            "top_logprobs": nothing().chain(known().map(top)).collect::<Vec<_>>()
        })
    }

    fn usage(&self, response: &TraceResponse) -> Value {
        let (prompt, new) = (response.usage.prompt_tokens, response.usage.new_tokens);
        let new = if self.drops { 0 } else { new };
        let mut usage = json!({"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new});
        if let Some(cached) = response.usage.cached_tokens {
            usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
        }
        usage
    }
}

/// Why a row ended.
fn reason(finish: &'static str, calls: &[Call]) -> &'static str {
    if calls.is_empty() { finish } else { "tool_calls" }
}

/// JSON has no minus infinity; this is what OpenAI writes for what is hardly likely.
fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

/// What the graph gave, and how to have the same text once more.
fn inside(response: &TraceResponse) -> Result<Value, Failure> {
    let json = serde_json::to_value(response).map_err(Failure::internal)?;
    let fields = ["results", "receipts", "usage", "seed", "session", "warnings"];
    let found = fields.into_iter().filter_map(|name| Some((name.to_owned(), json.get(name)?.clone())));
    Ok(found.collect::<serde_json::Map<_, _>>().into())
}
