//! Chat templates, rendered as transformers renders them.
//!
//! A template is Jinja with `trim_blocks` and `lstrip_blocks`, Python's string methods, `raise_exception`,
//! `strftime_now` and a `tojson` that writes what Python's `json.dumps(ensure_ascii=False)` does
//! (transformers' `utils/chat_template_utils.py`). Templates come with the model, so they are treated as untrusted: they
//! reach nothing but their arguments, and a budget of instructions ends those that do not end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::CheckpointError;

/// Instructions a template may run: a thousand times what a long conversation takes.
const FUEL: u64 = 50_000_000;

/// What a chat template is rendered with, beside the messages.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// Whether to end with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Tools the model may call, as JSON schemas, for templates that know them.
    pub tools: Option<Value>,
    /// Further variables of the template, such as `enable_thinking`.
    pub extra: Map<String, Value>,
}

/// The templates of one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChatTemplates {
    default: Option<String>,
    /// Used where tools are given.
    tool_use: Option<String>,
}

impl ChatTemplates {
    /// One template, or none.
    pub(crate) fn one(template: Option<&str>) -> Self {
        Self { default: template.map(str::to_owned), tool_use: None }
    }

    /// The value of `chat_template` in a `tokenizer_config.json`: one template, or a list of named ones.
    pub(crate) fn from_config(value: &Value) -> Option<Self> {
        match value {
            Value::String(template) => Some(Self::one(Some(template))),
            Value::Array(named) => {
                let find = |name: &str| {
                    let entry = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?;
                    Some(entry.get("template")?.as_str()?.to_owned())
                };
                Some(Self { default: find("default"), tool_use: find("tool_use") })
            }
            _ => None,
        }
    }

    pub(crate) fn default_template(&self) -> Option<&str> {
        self.default.as_deref()
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
        let template = options
            .tools
            .as_ref()
            .and(self.tool_use.as_deref())
            .or(self.default.as_deref())
            .ok_or_else(|| wrong("is missing: this model takes plain text only".to_owned()))?;
        let mut context = json!({
            "messages": messages,
            "tools": options.tools,
            "documents": null,
            "add_generation_prompt": options.add_generation_prompt,
        });
        for (name, value) in special_tokens {
            context[name] = json!(value);
        }
        for (name, value) in &options.extra {
            context[name] = value.clone();
        }
        // The tag only marks the assistant's words for training; what it encloses is rendered as it stands.
        let template = generation_tags_removed(template);
        let render = || environment()?.template_from_str(&template)?.render(Serde(&context));
        render().map_err(|error: minijinja::Error| wrong(format!("failed: {}", explain(&error))))
    }
}

/// An error of the template in one line, with the place it happened at.
fn explain(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or_else(|| detail.clone(), |line| format!("{detail} (line {line} of the template)"))
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    Ok(environment)
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

/// `json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)`.
fn to_json(value: Serde<Value>, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let value = if sort_keys == Some(true) { sorted(&value.0) } else { value.0 };
    let mut bytes = Vec::new();
    let indent = indent.map(|width| " ".repeat(width.min(64)));
    let written = match &indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonSpacing)),
        Some(indent) => {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    let text = written.map(|()| String::from_utf8_lossy(&bytes).into_owned());
    text.map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// The value with the keys of its objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(object) => {
            let object: BTreeMap<&String, Value> = object.iter().map(|(key, value)| (key, sorted(value))).collect();
            object.into_iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        other => other.clone(),
    }
}

/// JSON on one line as Python writes it: a space after each comma and colon.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, messages: Value, options: &ChatOptions) -> Result<String, CheckpointError> {
        let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        ChatTemplates::one(Some(template)).render(Path::new("t.json"), &special, &messages, options)
    }

    #[test]
    fn blocks_leave_no_blank_lines_and_python_methods_work() {
        let template = "{{ bos_token }}\n{% for m in messages %}\n  {% if m['role'].startswith('u') %}\n[{{ m.content.strip() }}]\n  {% endif %}\n{% endfor %}\n";
        let messages = json!([{"role": "user", "content": " hi "}, {"role": "system", "content": "x"}]);
        assert_eq!(render(template, messages, &ChatOptions::default()).unwrap(), "<s>\n[hi]\n");
    }

    #[test]
    fn tojson_is_pythons() {
        let tools = json!([{"name": "f<ö>", "z": 1.5, "a": {"b": null, "c": [true, "x'\"y"]}}]);
        let options = ChatOptions { tools: Some(tools), ..ChatOptions::default() };
        let text = render("{{ tools | tojson }}", json!([]), &options).unwrap();
        assert_eq!(text, r#"[{"name": "f<ö>", "z": 1.5, "a": {"b": null, "c": [true, "x'\"y"]}}]"#);
        let text = render("{{ tools[0].a | tojson(indent=2, sort_keys=true) }}", json!([]), &options).unwrap();
        assert_eq!(text, "{\n  \"b\": null,\n  \"c\": [\n    true,\n    \"x'\\\"y\"\n  ]\n}");
    }

    #[test]
    fn a_templates_own_refusal_is_the_error() {
        let error = render("{{ raise_exception('roles must alternate') }}", json!([]), &ChatOptions::default());
        assert!(error.unwrap_err().to_string().contains("roles must alternate"));
    }

    #[test]
    fn a_template_without_end_is_ended() {
        let template = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(render(template, json!([]), &ChatOptions::default()).unwrap_err().to_string().contains("fuel"));
    }

    #[test]
    fn dates_come_from_strftime_and_bad_formats_are_errors() {
        let year = render("{{ strftime_now('%Y') }}", json!([]), &ChatOptions::default()).unwrap();
        assert!(year.parse::<u32>().unwrap() > 2000);
        assert!(render("{{ strftime_now('%Q %!') }}", json!([]), &ChatOptions::default()).is_err());
    }

    #[test]
    fn named_templates_and_generation_tags() {
        let named = json!([
            {"name": "default", "template": "{%- generation -%}plain{%- endgeneration -%}"},
            {"name": "tool_use", "template": "tools"},
        ]);
        let templates = ChatTemplates::from_config(&named).unwrap();
        let render = |options| templates.render(Path::new("t"), &BTreeMap::new(), &json!([]), &options).unwrap();
        assert_eq!(render(ChatOptions::default()), "plain");
        assert_eq!(render(ChatOptions { tools: Some(json!([])), ..ChatOptions::default() }), "tools");
    }
}
