//! What OpenAI's clients ask for, as bodies of `/v1/generate`.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Map, Value, json};

use super::Kind;

/// New tokens of a completion that does not say.
const COMPLETION_TOKENS: usize = 16;
/// Fields of a generation that are called alike here.
const ALIKE: [&str; 15] = [
    "model",
    "edit_args",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "top_k",
    "min_p",
    "repetition_penalty",
    "ignore_eos",
    "timeout_ms",
];
/// Fields that change nothing of what a model writes.
const IDLE: [&str; 7] =
    ["user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"];

/// A request of an OpenAI client.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// The body of the generation.
    pub(crate) body: Value,
    pub(crate) streams: bool,
    /// Whether a stream ends with what it took.
    pub(crate) tells_usage: bool,
    /// Whether the prompts come before the new texts.
    pub(crate) echoes: bool,
    /// Whether the answer has a field `patchbay`.
    pub(crate) looks_inside: bool,
}

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// A field is unknown, of the wrong kind, or one that this server does not have.
    pub(crate) fn parse(kind: Kind, body: &Value) -> Result<Self> {
        let object = body.as_object().ok_or_else(|| Problem::new(Code::Malformed, "the body is a JSON object"))?;
        let what = if kind == Kind::Chat { "a chat completion" } else { "a completion" };
        let mut fields = Fields::new(what, object);
        let mut made = Map::new();
        for name in ALIKE {
            if let Some(value) = fields.get(name) {
                made.insert(name.into(), value.clone());
            }
        }
        // a temperature that is left out is 1 here
        made.entry("temperature").or_insert(json!(1.0));
        for name in IDLE {
            fields.get(name);
        }
        let echoes = match kind {
            Kind::Chat => chat(&mut fields, &mut made).map(|()| false)?,
            Kind::Text => text(&mut fields, &mut made)?,
        };
        let streams = fields.flag("stream")?.unwrap_or(false);
        made.insert("stream".into(), json!(streams));
        let tells_usage = usage(&mut fields)?;
        let inside = fields.get("patchbay");
        if let Some(inside) = inside {
            let object = inside.as_object().ok_or_else(|| wrong("patchbay", "an object", inside))?;
            let mut fields = Fields::new("`patchbay`", object);
            for name in ["graph", "output", "session", "keep"] {
                if let Some(value) = fields.get(name) {
                    made.insert(name.into(), value.clone());
                }
            }
            fields.finish().map_err(|problem| problem.under("patchbay"))?;
            if inside.pointer("/output/encoding").is_some_and(|encoding| encoding == "safetensors") {
                let problem = Problem::new(Code::Unsupported, "the answer is JSON").at("/patchbay/output/encoding");
                return Err(problem.hint("take `base64`"));
            }
        }
        fields.finish()?;
        Ok(Self { kind, body: made.into(), streams, tells_usage, echoes, looks_inside: inside.is_some() })
    }
}

fn chat<'a>(fields: &mut Fields<'a>, made: &mut Map<String, Value>) -> Result<()> {
    let mut input = json!({"messages": fields.need("messages")?});
    for name in ["tools", "documents", "chat_template_kwargs"] {
        if let Some(value) = fields.get(name) {
            input[name] = value.clone();
        }
    }
    match fields.get("tool_choice").map(|choice| (choice, choice.as_str())) {
        None | Some((_, Some("auto"))) => {}
        Some((_, Some("none"))) => drop(input.as_object_mut().map(|input| input.remove("tools"))),
        Some((choice, _)) => return Err(wrong("tool_choice", "\"auto\" or \"none\": no call can be forced", choice)),
    }
    made.insert("input".into(), input);
    let most = [fields.get("max_completion_tokens"), fields.get("max_tokens")].into_iter().flatten().next();
    if let Some(most) = most {
        made.insert("max_new_tokens".into(), most.clone());
    }
    let kind = fields.get("response_format").map(|format| (format, format.get("type").and_then(Value::as_str)));
    if let Some((format, kind)) = kind
        && kind != Some("text")
    {
        let problem =
            wrong("response_format", "{\"type\": \"text\"}: this server does not constrain what models write", format);
        return Err(problem);
    }
    let top = fields.count("top_logprobs")?;
    match (fields.flag("logprobs")?.unwrap_or(false), top) {
        (true, top) => drop(made.insert("logprobs".into(), json!(top.unwrap_or(0)))),
        (false, None | Some(0)) => {}
        (false, Some(_)) => {
            let problem = Problem::new(Code::BadArgument, "`top_logprobs` needs `logprobs`").under("top_logprobs");
            return Err(problem.hint("\"logprobs\": true"));
        }
    }
    Ok(())
}

/// Whether the prompts come before the new texts.
fn text<'a>(fields: &mut Fields<'a>, made: &mut Map<String, Value>) -> Result<bool> {
    let prompt = fields.need("prompt")?;
    let input = match prompt {
        Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty() => json!([prompt]),
        prompt => prompt.clone(),
    };
    made.insert("input".into(), input);
    let most = fields.get("max_tokens").cloned().unwrap_or(json!(COMPLETION_TOKENS));
    made.insert("max_new_tokens".into(), most);
    let logprobs = fields.count("logprobs")?;
    if let Some(count) = logprobs {
        made.insert("logprobs".into(), json!(count));
    }
    let echoes = fields.flag("echo")?.unwrap_or(false);
    if echoes && logprobs.is_some() {
        let problem = Problem::new(Code::Unsupported, "prompts have no `logprobs` here").under("echo");
        return Err(problem.hint("a trace of the prompt has them: log_softmax of its logits"));
    }
    if fields.get("best_of").is_some_and(|count| count.as_u64() != Some(1)) {
        return Err(Problem::new(Code::Unsupported, "this server has no `best_of`").under("best_of"));
    }
    if let Some(suffix) = fields.get("suffix") {
        return Err(wrong("suffix", "nothing: text is not filled in here", suffix));
    }
    Ok(echoes)
}

fn usage(fields: &mut Fields<'_>) -> Result<bool> {
    let Some(options) = fields.get("stream_options") else { return Ok(false) };
    let object = options.as_object().ok_or_else(|| wrong("stream_options", "an object", options))?;
    let mut options = Fields::new("`stream_options`", object);
    let tells = options.flag("include_usage").map_err(|problem| problem.under("stream_options"))?;
    options.get("include_obfuscation");
    options.finish().map_err(|problem| problem.under("stream_options"))?;
    Ok(tells.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_a_generation() {
        let body = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "logprobs": true, "top_logprobs": 2,
            "user": "me", "stop": "x", "stream": true, "stream_options": {"include_usage": true},
            "patchbay": {"graph": "save logits as x"}
        });
        let asked = Asked::parse(Kind::Chat, &body).unwrap();
        assert_eq!(
            asked.body,
            json!({
                "model": "m", "input": {"messages": [{"role": "user", "content": "hi"}]}, "max_new_tokens": 5, "temperature": 1.0,
                "logprobs": 2, "stop": "x", "stream": true, "graph": "save logits as x"
            })
        );
        assert!(asked.streams && asked.tells_usage && asked.looks_inside && !asked.echoes);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let chat = |more: Value| {
            let mut body = json!({"model": "m", "messages": []});
            more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
            Asked::parse(Kind::Chat, &body).unwrap_err().pointer
        };
        assert_eq!(chat(json!({"response_format": {"type": "json_object"}})), "/response_format");
        assert_eq!(chat(json!({"top_logprobs": 2})), "/top_logprobs");
        assert_eq!(chat(json!({"tool_choice": "required"})), "/tool_choice");
        assert_eq!(chat(json!({"patchbay": {"grap": []}})), "/patchbay/grap");
        assert_eq!(chat(json!({"temprature": 1})), "/temprature");
        let text = |body: Value| Asked::parse(Kind::Text, &body);
        assert_eq!(text(json!({"prompt": [1, 2]})).unwrap().body["input"], json!([[1, 2]]));
        assert_eq!(text(json!({"prompt": "a", "suffix": "b"})).unwrap_err().pointer, "/suffix");
        assert_eq!(text(json!({"prompt": "a", "echo": true, "logprobs": 1})).unwrap_err().pointer, "/echo");
    }
}
