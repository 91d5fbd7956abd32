//! Chat templates, rendered as transformers renders them.
//!
//! A template is Jinja with `trim_blocks`, `lstrip_blocks` and loop controls, Python's methods of strings, `raise_exception`,
//! `strftime_now` and a `tojson` that writes what Python's `json.dumps(ensure_ascii=False)` does
//! (transformers' `utils/chat_template_utils.py`). Templates come with the model, so they are treated as untrusted: they
//! reach nothing but their arguments; a budget of instructions, of time and of the size of values ends those that do not end.

mod continued;
mod filters;
mod guard;
mod methods;
mod written;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value, json};

use crate::CheckpointError;

/// Instructions a template may run, and 64 times the bytes it may make: a hundred times what a long conversation takes.
const FUEL: u64 = 5_000_000;
/// Bytes of stack a template may take; only what it does take is ever given to it.
const STACK: usize = 1 << 29;
/// The folder of named templates.
pub(crate) const ADDITIONAL: &str = "additional_chat_templates";
/// How deep macros may call one another.
const DEEPEST_CALL: usize = 200;
/// What the messages' reasoning is called, the first name found counting: templates read the first or the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What a chat template is rendered with, beside the messages.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// Whether to end with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Whether to end where the last message does, so that the model goes on with it.
    pub continue_final_message: bool,
    /// Tools the model may call, as JSON schemas, for templates that know them.
    pub tools: Option<Value>,
    /// Documents the model may quote, as objects with a `title` and a `text`, for templates that know them.
    pub documents: Option<Value>,
    /// Further variables of the template, such as `enable_thinking`.
    pub extra: Map<String, Value>,
}

/// The templates of one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChatTemplates {
    default: Option<String>,
    /// Used where tools are given.
    tool_use: Option<String>,
    /// The names of all, where they have names.
    names: Vec<String>,
}

impl ChatTemplates {
    /// One template, or none.
    pub(crate) fn one(template: Option<&str>) -> Self {
        Self { default: template.map(str::to_owned), ..Self::default() }
    }

    /// The same with another one where tools are given.
    pub(crate) fn with_tools(self, template: Option<&str>) -> Self {
        Self { tool_use: template.map(str::to_owned), ..self }
    }

    /// The value of `chat_template` in a `tokenizer_config.json`: one template, or a list of named ones.
    pub(crate) fn from_config(value: &Value) -> Option<Self> {
        match value {
            Value::String(template) => Some(Self::one(Some(template))),
            Value::Array(named) => Some(Self::named(named.iter().filter_map(|entry| {
                Some((entry.get("name")?.as_str()?.to_owned(), entry.get("template")?.as_str()?.to_owned()))
            }))),
            _ => None,
        }
    }

    /// The templates in files of their own, which come before those in a `tokenizer_config.json`: `chat_template.jinja` and the
    /// named ones of the folder `additional_chat_templates`.
    pub(crate) fn from_files(folder: &Path) -> Result<Option<Self>, CheckpointError> {
        let mut templates = BTreeMap::new();
        let mut read = |name: &str, file: &Path| -> Result<(), CheckpointError> {
            if file.is_file() {
                let template = std::fs::read_to_string(file).map_err(CheckpointError::io(file, "read"))?;
                templates.insert(name.to_owned(), template);
            }
            Ok(())
        };
        read("default", &folder.join("chat_template.jinja"))?;
        for entry in folder.join(ADDITIONAL).read_dir().into_iter().flatten().flatten() {
            let file = entry.path();
            if let (Some(name), Some("jinja")) = (file.file_stem(), file.extension().and_then(OsStr::to_str)) {
                read(&name.to_string_lossy(), &file)?;
            }
        }
        Ok((!templates.is_empty()).then(|| Self::named(templates)))
    }

    /// Templates with names, of which two have a meaning.
    fn named(templates: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut named = Self::default();
        for (name, template) in templates {
            match name.as_str() {
                "default" => named.default = Some(template),
                "tool_use" => named.tool_use = Some(template),
                _ => {}
            }
            named.names.push(name);
        }
        named
    }

    pub(crate) fn default_template(&self) -> Option<&str> {
        self.default.as_deref()
    }

    pub(crate) fn tool_template(&self) -> Option<&str> {
        self.tool_use.as_deref().or(self.default.as_deref())
    }

    /// Renders messages.
    pub(crate) fn render(
        &self,
        file: &Path,
        special_tokens: &BTreeMap<String, String>,
        messages: &Value,
        options: &ChatOptions,
    ) -> Result<String, CheckpointError> {
        let wrong = |detail: String| CheckpointError::Chat { file: file.to_path_buf(), detail };
        let template = options.tools.as_ref().and(self.tool_use.as_deref()).or(self.default.as_deref()).ok_or_else(
            || match self.names.join("`, `").as_str() {
                "" => wrong("is missing: this model takes plain text only".to_owned()),
                names => wrong(format!("to take is not clear: there are only `{names}`, and none is `default`")),
            },
        )?;
        let failed = |detail: String| wrong(format!("failed: {detail}"));
        let mut messages = prepared(messages).map_err(failed)?;
        let goes_on = options.continue_final_message;
        let said = goes_on.then(|| continued::mark(&mut messages)).transpose().map_err(failed)?;
        let mut context = json!({
            "messages": messages,
            "tools": options.tools,
            "documents": options.documents,
            "add_generation_prompt": options.add_generation_prompt,
        });
        for (name, value) in special_tokens {
            context[name] = json!(value);
        }
        for (name, value) in &options.extra {
            context[name] = value.clone();
        }
        // The tag only marks the assistant's words for training; what it encloses is rendered as it stands.
        let template = generation_tags_removed(&template.replace("\r\n", "\n").replace('\r', "\n"));
        let render = || {
            let template = guard::Guarded::compile(&template, syntax()?)?;
            let rendered = template.render(&environment(), Serde(&context).into());
            rendered.map_err(|error| minijinja::Error::new(error.kind(), explain(&error)))
        };
        let rendered = on_deep_stack(render).map_err(failed)?;
        let rendered = rendered.map_err(|error: minijinja::Error| failed(explain(&error)))?;
        said.map_or(Ok(rendered.clone()), |said| continued::cut(rendered, &said)).map_err(failed)
    }
}

/// Runs a template on a stack that it cannot overflow: what it nests with all its fuel is taken apart level by level.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| format!("no thread could be started ({error})"))?;
        thread.join().map_err(|_| "the template engine gave up".to_owned())
    })
}

/// Messages as transformers hands them to a template: without keys that say nothing, and with a message's reasoning under both
/// names that templates know.
fn prepared(messages: &Value) -> Result<Vec<Map<String, Value>>, String> {
    let list = messages.as_array().filter(|list| !list.is_empty()).ok_or("there are no messages")?;
    let prepare = |(i, message): (usize, &Value)| {
        let message = message.as_object().ok_or_else(|| format!("message {i} is no object"))?;
        let message: Map<String, Value> = message
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let Some(reasoning) = REASONING.iter().find_map(|name| message.get(*name)).cloned() else { return Ok(message) };
        let mut named = Map::from_iter([("thinking".to_owned(), reasoning.clone())]);
        named.extend(message);
        named.insert(REASONING[0].to_owned(), reasoning);
        Ok(named)
    };
    list.iter().enumerate().map(prepare).collect()
}

/// An error of the template in one line, with the place it happened at.
fn explain(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or_else(|| detail.clone(), |line| format!("{detail} (line {line} of the template)"))
}

fn syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEEPEST_CALL);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(filters::write);
    filters::add_to(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);
    guard::add_to(&mut environment);
    environment
}

fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    let items = chrono::format::StrftimeItems::new(format).parse().map_err(|_| {
        let message = format!("strftime_now: {format:?} is not a format of strftime");
        minijinja::Error::new(ErrorKind::InvalidOperation, message)
    })?;
    Ok(chrono::Local::now().format_with_items(items.iter()).to_string())
}

/// Jinja's `{% generation %}` … `{% endgeneration %}`, which only transformers knows, as a block that is always taken.
fn generation_tags_removed(template: &str) -> String {
    let mut text = template.to_owned();
    for (open, close) in [("{%", "%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%-", "-%}")] {
        for (tag, instead) in [("generation", "if true"), ("endgeneration", "endif")] {
            text = text.replace(&format!("{open} {tag} {close}"), &format!("{open} {instead} {close}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, messages: Value, options: &ChatOptions) -> Result<String, CheckpointError> {
        let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        ChatTemplates::one(Some(template)).render(Path::new("t.json"), &special, &messages, options)
    }

    #[test]
    fn dates_come_from_strftime_and_bad_formats_are_errors() {
        let year = render("{{ strftime_now('%Y') }}", json!([{}]), &ChatOptions::default()).unwrap();
        assert!(year.parse::<u32>().unwrap() > 2000);
        assert!(render("{{ strftime_now('%Q %!') }}", json!([{}]), &ChatOptions::default()).is_err());
    }

    #[test]
    fn named_templates_and_generation_tags() {
        let named = json!([
            {"name": "default", "template": "{%- generation -%}plain{%- endgeneration -%}"},
            {"name": "tool_use", "template": "tools"},
        ]);
        let templates = ChatTemplates::from_config(&named).unwrap();
        let render = |options| templates.render(Path::new("t"), &BTreeMap::new(), &json!([{}]), &options).unwrap();
        assert_eq!(render(ChatOptions::default()), "plain");
        assert_eq!(render(ChatOptions { tools: Some(json!([])), ..ChatOptions::default() }), "tools");
    }
}
