//! Answers in OpenAI's forms.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use patchbay_checkpoint::Tokenizer;
use serde_json::{Value, json};

use super::Kind;
use super::asked::Asked;
use crate::Failure;
use crate::generation::Told;
use crate::wire::generation::{OutputBody, TokenEvent, TokenLogprob};
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
    /// Prompts to put before the texts, each for as many rows as there are samples.
    echoes: Option<(Vec<String>, usize)>,
    /// Whether each row has begun.
    begun: Vec<bool>,
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
        let echoes = asked.echoes.then(|| (prompts.iter().map(text).collect(), samples));
        let prefix = if asked.kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            kind: asked.kind,
            id: format!("{prefix}-{}", id.rsplit('-').next().unwrap_or(id)),
            created,
            model: model.to_owned(),
            tells_usage: asked.tells_usage,
            looks_inside: asked.looks_inside,
            echoes,
            begun: vec![false; prompts.len() * samples],
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
        let prompt = self.echoes.as_ref().and_then(|(prompts, samples)| prompts.get(row / samples));
        prompt.map_or("", String::as_str)
    }

    /// The whole answer.
    pub(crate) fn answer(&self, response: &TraceResponse) -> Result<Value, Failure> {
        let outputs = response.outputs.as_deref().unwrap_or_default();
        let choices = outputs.iter().enumerate().map(|(row, output)| self.choice(row, output));
        let mut body = self.body(false, choices.collect());
        body["usage"] = usage(response);
        if self.looks_inside {
            body["patchbay"] = inside(response)?;
        }
        Ok(body)
    }

    fn choice(&self, row: usize, output: &OutputBody) -> Value {
        let text = output.text.as_deref().unwrap_or_default();
        let scored = output.logprobs.as_deref();
        match self.kind {
            Kind::Chat => json!({
                "index": row, "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": scored.map(|scored| self.chat_logprobs(scored)), "finish_reason": output.finish_reason
            }),
            Kind::Text => json!({
                "index": row, "text": format!("{}{text}", self.echo(row)),
                "logprobs": scored.map(|scored| self.text_logprobs(scored)), "finish_reason": output.finish_reason
            }),
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
                    chunk["usage"] = usage(response);
                    chunks.push(chunk);
                }
                Ok(chunks)
            }
        }
    }

    fn token(&mut self, token: &TokenEvent) -> Vec<Value> {
        let row = token.row;
        let first = self.begun.get_mut(row).is_some_and(|begun| !std::mem::replace(begun, true));
        let scored = token.logprob.as_ref().map(std::slice::from_ref);
        let mut chunks = Vec::new();
        if first && self.kind == Kind::Chat {
            let role = json!({"role": "assistant", "content": "", "refusal": null});
            chunks.push(self.chunk(row, ("delta", role), Value::Null, None));
        }
        let echo = if first { self.echo(row) } else { "" };
        let text = format!("{echo}{}", token.text);
        if scored.is_some() || !text.is_empty() || (first && self.kind == Kind::Text) {
            let (content, logprobs) = match self.kind {
                Kind::Chat => (("delta", json!({"content": text})), scored.map(|scored| self.chat_logprobs(scored))),
                Kind::Text => (("text", json!(text)), scored.map(|scored| self.text_logprobs(scored))),
            };
            chunks.push(self.chunk(row, content, json!(logprobs), None));
        }
        if token.finish_reason.is_some() {
            let nothing = if self.kind == Kind::Chat { ("delta", json!({})) } else { ("text", json!("")) };
            chunks.push(self.chunk(row, nothing, Value::Null, token.finish_reason));
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

    fn text_logprobs(&self, scored: &[TokenLogprob]) -> Value {
        let tokens: Vec<String> = scored.iter().map(|scored| self.text_of(scored.id)).collect();
        let top = |scored: &TokenLogprob| -> Value {
            scored
                .top
                .iter()
                .map(|token| (self.text_of(token.id), json!(finite(token.logprob))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let offsets = tokens.iter().scan(0, |offset, token| {
            let before = *offset;
            *offset += token.chars().count();
            Some(before)
        });
        json!({
            "text_offset": offsets.collect::<Vec<_>>(), "tokens": tokens,
            "token_logprobs": scored.iter().map(|scored| finite(scored.logprob)).collect::<Vec<_>>(),
            "top_logprobs": scored.iter().map(top).collect::<Vec<_>>()
        })
    }
}

/// JSON has no minus infinity; this is what OpenAI writes for what is hardly likely.
fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

fn usage(response: &TraceResponse) -> Value {
    let (prompt, new) = (response.usage.prompt_tokens, response.usage.new_tokens);
    let mut usage = json!({"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new});
    if let Some(cached) = response.usage.cached_tokens {
        usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
    }
    usage
}

/// What the graph gave, and how to have the same text once more.
fn inside(response: &TraceResponse) -> Result<Value, Failure> {
    let json = serde_json::to_value(response).map_err(Failure::internal)?;
    let fields = ["results", "receipts", "usage", "seed", "session", "warnings"];
    let found = fields.into_iter().filter_map(|name| Some((name.to_owned(), json.get(name)?.clone())));
    Ok(found.collect::<serde_json::Map<_, _>>().into())
}
