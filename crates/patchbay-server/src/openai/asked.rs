//! What OpenAI's clients ask for, as bodies of `/v1/generate`.

use std::sync::Arc;

use patchbay_checkpoint::Tokenizer;
use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Map, Value, json};

use super::Kind;
use super::calls::CallReader;
use super::dialect::Dialect;
use super::format::constraint;
use super::tools::Tools;

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
    /// Whether no new token is wanted: the one that comes is not told.
    pub(crate) drops: bool,
    /// What the model may call.
    pub(crate) tools: Option<Arc<Tools>>,
    /// How its calls are found.
    pub(crate) calls: Option<CallReader>,
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
        let tools = if kind == Kind::Chat { chat(&mut fields, &mut made)?.map(Arc::new) } else { None };
        let echoes = kind == Kind::Text && text(&mut fields, &mut made)?;
        let drops = echoes && made.get("max_new_tokens").is_some_and(|most| most == 0);
        if drops {
            made.insert("max_new_tokens".into(), json!(1));
        }
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
        if streams && made.contains_key("prompt_logprobs") {
            let problem = Problem::new(Code::Unsupported, "a stream has no `logprobs` of the prompt").under("stream");
            return Err(problem.hint("leave out `stream`, or one of `echo` and `logprobs`"));
        }
        let looks_inside = inside.is_some();
        let body = made.into();
        Ok(Self { kind, body, streams, tells_usage, echoes, looks_inside, drops, tools, calls: None })
    }

    /// Takes the form of calls from the model that is to make them, and holds it to one if it has to.
    ///
    /// # Errors
    /// The model's chat template has no tools, or no calls that can be written here.
    pub(crate) fn speak(&mut self, tokenizer: Option<&Arc<Tokenizer>>) -> Result<()> {
        let Some(tools) = &self.tools else { return Ok(()) };
        let template = tokenizer.and_then(|tokenizer| tokenizer.tool_template());
        if !template.is_some_and(|template| template.contains("tools")) {
            let problem = Problem::new(Code::Unsupported, "this model's chat template has no tools").at("/tools");
            return Err(problem.hint("leave `tools` out, or say in a message what there is to call"));
        }
        let dialect = template.and_then(Dialect::of);
        if let Some(forced) = tools.forced() {
            let Some((dialect, tokenizer)) = dialect.zip(tokenizer) else {
                let detail = "this model's chat template shows no calls of a form that is known here";
                let problem = Problem::new(Code::Unsupported, detail).at("/tool_choice");
                return Err(problem.hint("\"auto\" lets the model write what it likes, and gives it as text"));
            };
            self.body["constraint"] = json!({"lark": dialect.grammar(&forced, tokenizer)});
        }
        let reader = |(dialect, tokenizer)| CallReader::new(dialect, Arc::clone(tools), Arc::clone(tokenizer));
        self.calls = dialect.zip(tokenizer).map(reader);
        Ok(())
    }
}

/// The tools.
fn chat<'a>(fields: &mut Fields<'a>, made: &mut Map<String, Value>) -> Result<Option<Tools>> {
    let mut input = json!({"messages": messages(fields.need("messages")?)});
    for name in ["documents", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"] {
        if let Some(value) = fields.get(name) {
            input[name] = value.clone();
        }
    }
    let tools = Tools::parse(fields)?;
    if let Some(list) = fields.get("tools").filter(|_| tools.is_some()) {
        input["tools"] = list.clone();
    }
    made.insert("input".into(), input);
    let most = [fields.get("max_completion_tokens"), fields.get("max_tokens")].into_iter().flatten().next();
    if let Some(most) = most {
        made.insert("max_new_tokens".into(), most.clone());
    }
    let constraint = fields.get("response_format").map(constraint).transpose()?.flatten();
    if let Some(constraint) = constraint {
        if tools.as_ref().is_some_and(|tools| tools.forced().is_some()) {
            let detail = "a call that has to come leaves no room for a `response_format`";
            let problem = Problem::new(Code::BadArgument, detail).under("response_format");
            return Err(problem.hint("leave out one of `tool_choice` and `response_format`"));
        }
        made.insert("constraint".into(), constraint);
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
    Ok(tools)
}

/// Messages as templates take them: OpenAI has the arguments of earlier calls as text.
fn messages(messages: &Value) -> Value {
    let mut messages = messages.clone();
    let calls = messages.as_array_mut().into_iter().flatten().filter_map(|message| message.get_mut("tool_calls"));
    for call in calls.filter_map(Value::as_array_mut).flatten() {
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && let Some(Ok(read)) = arguments.as_str().map(serde_json::from_str)
        {
            *arguments = read;
        }
    }
    messages
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
    if let Some(count) = logprobs.filter(|_| echoes) {
        made.insert("prompt_logprobs".into(), json!(count));
    }
    if let Some(constraint) = fields.get("constraint") {
        made.insert("constraint".into(), constraint.clone());
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
        assert_eq!(chat(json!({"response_format": {"type": "xml"}})), "/response_format");
        assert_eq!(chat(json!({"response_format": {"type": "json_schema"}})), "/response_format/json_schema");
        let schema = json!({"type": "json_schema", "json_schema": {"schema": 3}});
        assert_eq!(chat(json!({"response_format": schema})), "/response_format/json_schema/schema");
        assert_eq!(chat(json!({"top_logprobs": 2})), "/top_logprobs");
        assert_eq!(chat(json!({"tool_choice": "required"})), "/tool_choice");
        assert_eq!(chat(json!({"patchbay": {"grap": []}})), "/patchbay/grap");
        assert_eq!(chat(json!({"temprature": 1})), "/temprature");
        let text = |body: Value| Asked::parse(Kind::Text, &body);
        assert_eq!(text(json!({"prompt": [1, 2]})).unwrap().body["input"], json!([[1, 2]]));
        assert_eq!(text(json!({"prompt": "a", "suffix": "b"})).unwrap_err().pointer, "/suffix");
        let scored = json!({"prompt": "a", "echo": true, "logprobs": 1, "max_tokens": 0});
        let asked = text(scored.clone()).unwrap();
        assert_eq!((&asked.body["prompt_logprobs"], &asked.body["max_new_tokens"]), (&json!(1), &json!(1)));
        assert!(asked.drops);
        let mut streamed = scored;
        streamed["stream"] = json!(true);
        assert_eq!(text(streamed).unwrap_err().pointer, "/stream");
    }
}
