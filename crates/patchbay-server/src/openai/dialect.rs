//! How models write calls of tools.
//!
//! A model writes them as its chat template shows them: there are a few forms, and the template tells which. They are read back into
//! OpenAI's form, and a call that has to come is a constraint of this form.

use patchbay_checkpoint::Tokenizer;
use patchbay_generate::spaced;
use serde_json::{Value, json};
use uuid::Uuid;

use super::tools::{Tool, Tools};

/// A way to write calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once a call: Hermes, Qwen, SmolLM.
    Tagged,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}]`: Mistral.
    Listed,
    /// `[TOOL_CALLS]name[ARGS]{…}`: Mistral's later models.
    Named,
    /// `{"name": …, "parameters": {…}}` and nothing else: Llama 3.
    Bare,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Call {
    /// In OpenAI's form.
    pub(crate) fn written(&self) -> Value {
        let id = format!("call_{}", &Uuid::new_v4().simple().to_string()[..24]);
        json!({"id": id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }

    /// Of an object with a name, and arguments as an object or as its text.
    fn read(value: &Value) -> Option<Self> {
        let name = value.get("name")?.as_str()?.to_owned();
        let arguments = match value.get("arguments").or(value.get("parameters")) {
            Some(Value::String(text)) => text.clone(),
            Some(arguments) => arguments.to_string(),
            None => "{}".to_owned(),
        };
        Some(Self { name, arguments })
    }
}

impl Dialect {
    /// That of a chat template; nothing where it shows none that is known.
    pub(crate) fn of(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        match () {
            () if has("[TOOL_CALLS]") && has("[ARGS]") => Some(Self::Named),
            () if has("[TOOL_CALLS]") => Some(Self::Listed),
            // tags around something other than JSON
            () if has("<function=") || has("<arg_key>") => None,
            () if has("<tool_call>") => Some(Self::Tagged),
            () if has("\"parameters\":") && (has("python_tag") || has("ipython")) => Some(Self::Bare),
            () => None,
        }
    }

    /// What a call begins with.
    pub(crate) fn marker(self) -> &'static str {
        match self {
            Self::Tagged => "<tool_call>",
            Self::Listed | Self::Named => "[TOOL_CALLS]",
            Self::Bare => "{",
        }
    }

    /// What is said before the calls, and the calls; nothing where it is a text without any.
    pub(crate) fn read(self, text: &str, tools: &Tools) -> Option<(String, Vec<Call>)> {
        let start = text.find(self.marker())?;
        let (said, rest) = text.split_at(start);
        let calls = match self {
            Self::Bare => match said.trim() {
                "" | "<|python_tag|>" => values(rest, "").iter().map(Call::read).collect::<Option<Vec<_>>>()?,
                _ => return None,
            },
            Self::Tagged | Self::Listed => {
                let values = values(rest, self.marker());
                let each = values.iter().flat_map(|value| match value {
                    Value::Array(items) => items.iter().collect(),
                    item => vec![item],
                });
                each.map(Call::read).collect::<Option<Vec<_>>>()?
            }
            Self::Named => {
                let parts = rest.split(self.marker()).skip(1);
                parts.map(named).collect::<Option<Vec<_>>>()?
            }
        };
        let known = !calls.is_empty() && calls.iter().all(|call| tools.has(&call.name));
        let said = if self == Self::Bare { "" } else { said.trim_end() };
        known.then(|| (said.to_owned(), calls))
    }

    /// A grammar of one call of one of these tools, in Lark.
    pub(crate) fn grammar(self, tools: &[&Tool], tokenizer: &Tokenizer) -> String {
        let special = |marker: &str| match tokenizer.id(marker).filter(|id| tokenizer.is_special(*id)) {
            Some(id) => format!("<[{id}]>"),
            None => json!(marker).to_string(),
        };
        let (mut calls, mut rules) = (Vec::new(), String::new());
        for (number, tool) in tools.iter().enumerate() {
            let name = json!(tool.name);
            let (before, after) = match self {
                Self::Tagged | Self::Listed => (format!("{{\"name\": {name}, \"arguments\": "), "}"),
                Self::Bare => (format!("{{\"name\": {name}, \"parameters\": "), "}"),
                Self::Named => (tool.name.clone(), ""),
            };
            let separator = if self == Self::Named { special("[ARGS]") } else { String::new() };
            let after = if after.is_empty() { String::new() } else { json!(after).to_string() };
            calls.push(format!("{} {separator} args{number} {after}", json!(before)));
            rules += &format!("args{number}: %json {}\n", spaced(&tool.parameters));
        }
        let (begin, end) = match self {
            Self::Tagged => {
                (format!("{} \"\\n\"", special("<tool_call>")), format!("\"\\n\" {}", special("</tool_call>")))
            }
            Self::Listed => (format!("{} \"[\"", special("[TOOL_CALLS]")), "\"]\"".to_owned()),
            Self::Named => (special("[TOOL_CALLS]"), String::new()),
            Self::Bare => (String::new(), String::new()),
        };
        format!("start: {begin} call {end}\ncall: {}\n{rules}", calls.join(" | "))
    }
}

/// The JSON values in a text between markers, tags that end them, and semicolons. One that is not whole ends the list.
fn values(text: &str, marker: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == ',');
        let stripped =
            [marker, "</tool_call>"].iter().find_map(|tag| rest.strip_prefix(tag).filter(|_| !tag.is_empty()));
        if let Some(stripped) = stripped {
            rest = stripped;
            continue;
        }
        let mut reader = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match reader.next() {
            Some(Ok(value)) => {
                found.push(value);
                rest = &rest[reader.byte_offset()..];
            }
            _ => return found,
        }
    }
}

/// A call as `name[ARGS]{…}`.
fn named(part: &str) -> Option<Call> {
    let at = part.find('{')?;
    let (name, arguments) = (part[..at].split("[ARGS]").next()?, values(&part[at..], ""));
    // between the two there may be an id of the call
    let name = name.split("[CALL_ID]").next()?.trim();
    Some(Call { name: name.to_owned(), arguments: arguments.first()?.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::tools::Choice;
    use super::*;

    fn tools() -> Tools {
        let tool = |name: &str| Tool { name: name.into(), parameters: json!({"type": "object"}) };
        Tools { list: vec![tool("add"), tool("now")], choice: Choice::Auto }
    }

    #[test]
    fn calls_are_read_as_they_are_written() {
        let add = Call { name: "add".into(), arguments: "{\"a\":1}".into() };
        let now = Call { name: "now".into(), arguments: "{}".into() };
        for (dialect, text, said, calls) in [
            (
                Dialect::Tagged,
                "Well.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \
                 \"arguments\": {}}\n</tool_call>",
                "Well.",
                vec![add.clone(), now.clone()],
            ),
            (Dialect::Tagged, "<tool_call>[{\"name\": \"now\"}]</tool_call>", "", vec![now.clone()]),
            (Dialect::Listed, "[TOOL_CALLS] [{\"name\": \"add\", \"arguments\": {\"a\": 1}}]", "", vec![add.clone()]),
            (
                Dialect::Named,
                "[TOOL_CALLS]add[ARGS]{\"a\": 1}[TOOL_CALLS]now[CALL_ID]x1[ARGS]{}",
                "",
                vec![add.clone(), now.clone()],
            ),
            (Dialect::Bare, "{\"name\": \"add\", \"parameters\": {\"a\": 1}}", "", vec![add.clone()]),
            (
                Dialect::Bare,
                "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"add\", \"parameters\": \"{\\\"a\\\":1}\"}",
                "",
                vec![now.clone(), add.clone()],
            ),
        ] {
            assert_eq!(dialect.read(text, &tools()), Some((said.to_owned(), calls)), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_stays_a_text() {
        for (dialect, text) in [
            (Dialect::Tagged, "Nothing to call."),
            (Dialect::Tagged, "<tool_call>\n{\"name\": \"add\", \"argum"),
            (Dialect::Tagged, "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>"),
            (Dialect::Bare, "See {\"name\": \"add\", \"parameters\": {}}"),
            (Dialect::Bare, "{\"answer\": 3}"),
            (Dialect::Named, "[TOOL_CALLS]add"),
        ] {
            assert_eq!(dialect.read(text, &tools()), None, "{text}");
        }
    }

    #[test]
    fn templates_tell_their_dialect() {
        for (template, dialect) in [
            ("{{ '<tool_call>' + call | tojson + '</tool_call>' }}", Some(Dialect::Tagged)),
            ("{{ '[TOOL_CALLS] [' }}", Some(Dialect::Listed)),
            ("{{ '[TOOL_CALLS]' + name + '[ARGS]' }}", Some(Dialect::Named)),
            ("{{ '\"parameters\": ' }}{%- if builtin %}{{ '<|python_tag|>' }}", Some(Dialect::Bare)),
            ("{{ '<tool_call>\n<function=' + name }}", None),
            ("{{ message.content }}", None),
        ] {
            assert_eq!(Dialect::of(template), dialect, "{template}");
        }
    }
}
