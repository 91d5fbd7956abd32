//! A conversation as an input: messages, and what a chat template is given beside them.

use serde_json::{Map, Value};

use crate::fields::{Fields, brief, wrong};
use crate::problem::{Code, Problem, Result};

/// The variables of a template that have fields of their own.
const RESERVED: [&str; 5] = ["messages", "tools", "documents", "add_generation_prompt", "continue_final_message"];

/// Messages, and what the chat template is rendered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The messages: a list of objects with `role` and `content`.
    pub messages: Value,
    /// Tools the model may call, a list of JSON schemas.
    pub tools: Option<Value>,
    /// Documents the model may quote, a list of objects.
    pub documents: Option<Value>,
    /// Whether the text ends with the beginning of the assistant's turn; true where nothing is said.
    pub add_generation_prompt: bool,
    /// Whether it ends where the last message does.
    pub continue_final_message: bool,
    /// Further variables of the template.
    pub variables: Map<String, Value>,
}

impl Conversation {
    /// Takes a conversation out of an input object whose `messages` are these.
    pub(crate) fn parse<'a>(fields: &mut Fields<'a>, messages: &'a Value) -> Result<Self> {
        let what = "a list of messages with `role` and `content`";
        let list = messages.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| wrong("messages", what, messages))?;
        if let Some(i) = list.iter().position(|message| !is_message(message)) {
            let detail = format!("this is no message: {}", brief(&list[i]));
            return Err(Problem::new(Code::Malformed, detail)
                .hint("a message has a `role` and a `content`: {\"role\": \"user\", \"content\": \"Hello\"}")
                .under(i)
                .under("messages"));
        }
        let tools =
            objects(fields, "tools", "a tool is a JSON schema, such as {\"type\": \"function\", \"function\": {…}}")?;
        let documents = objects(fields, "documents", "a document is an object with a `title` and a `text`")?;
        let continue_final_message = fields.flag("continue_final_message")?.unwrap_or(false);
        let add_generation_prompt = fields.flag("add_generation_prompt")?.unwrap_or(!continue_final_message);
        if add_generation_prompt && continue_final_message {
            let detail = "a conversation goes on with its last message, or with another one";
            let problem = Problem::new(Code::BadArgument, detail).under("continue_final_message");
            return Err(problem.hint("leave out one of `continue_final_message` and `add_generation_prompt`"));
        }
        let variables = variables(fields)?;
        Ok(Self {
            messages: messages.clone(),
            tools,
            documents,
            add_generation_prompt,
            continue_final_message,
            variables,
        })
    }
}

/// A list of objects, each of which is what `each` says.
fn objects<'a>(fields: &mut Fields<'a>, name: &'a str, each: &str) -> Result<Option<Value>> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let list = value.as_array().ok_or_else(|| wrong(name, "a list of objects", value).hint(each))?;
    match list.iter().position(|item| !item.is_object()) {
        Some(i) => {
            let detail = format!("`{name}` are objects, found {}", brief(&list[i]));
            Err(Problem::new(Code::Malformed, detail).hint(each).under(i).under(name))
        }
        None => Ok(Some(value.clone())),
    }
}

fn variables(fields: &mut Fields<'_>) -> Result<Map<String, Value>> {
    const NAME: &str = "chat_template_kwargs";
    let Some(value) = fields.get(NAME) else { return Ok(Map::new()) };
    let variables = value.as_object().ok_or_else(|| wrong(NAME, "an object of the template's variables", value))?;
    match RESERVED.iter().find(|name| variables.contains_key(**name)) {
        Some(name) => {
            let problem = Problem::new(Code::BadArgument, format!("`{name}` is a field of the input itself"));
            Err(problem.hint("write it beside `messages`").under(name).under(NAME))
        }
        None => Ok(variables.clone()),
    }
}

/// An object with a role and a content, which is a text, a list of parts or, beside calls of tools, nothing. A chat
/// template would leave out without a word what is anything else.
fn is_message(value: &Value) -> bool {
    let content = match value.get("content") {
        None | Some(Value::Null) => value.get("tool_calls").is_some_and(Value::is_array),
        Some(content) => content.is_string() || content.is_array(),
    };
    content && value.get("role").is_some_and(Value::is_string)
}
