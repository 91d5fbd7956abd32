//! Tools that a model may call.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

/// Tools of one request at most.
const MOST_TOOLS: usize = 128;

/// The tools of a request, and which of them have to be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tools {
    pub(crate) list: Vec<Tool>,
    pub(crate) choice: Choice,
}

/// A function that the caller has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The schema of its arguments.
    pub(crate) parameters: Value,
}

/// What has to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Whatever the model likes, or nothing.
    Auto,
    /// Some tool.
    Required,
    /// This one.
    Named(String),
}

impl Tools {
    /// Of a body: nothing where there are none, or where none may be called.
    ///
    /// # Errors
    /// They are not OpenAI's, or the one to be called is none of them.
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Option<Self>> {
        let (tools, choice) = (fields.get("tools"), fields.get("tool_choice"));
        let list = tools.map(list).transpose()?.unwrap_or_default();
        let choice = match choice {
            None => Choice::Auto,
            Some(choice) => match (choice.as_str(), choice.pointer("/function/name").and_then(Value::as_str)) {
                (Some("none"), _) => return Ok(None),
                (Some("auto"), _) => Choice::Auto,
                (Some("required"), _) => Choice::Required,
                (None, Some(name)) if list.iter().any(|tool| tool.name == name) => Choice::Named(name.to_owned()),
                (None, Some(name)) => {
                    let problem = Problem::new(Code::BadArgument, format!("there is no tool `{name}`"));
                    return Err(problem.under("name").under("function").under("tool_choice"));
                }
                _ => {
                    let what =
                        "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}";
                    return Err(wrong("tool_choice", what, choice));
                }
            },
        };
        match (list.is_empty(), choice) {
            (true, Choice::Auto) => Ok(None),
            (true, _) => Err(Problem::new(Code::BadArgument, "there are no `tools` to call").under("tool_choice")),
            (false, choice) => Ok(Some(Self { list, choice })),
        }
    }

    /// Those of which one has to be called; nothing where none has to.
    pub(crate) fn forced(&self) -> Option<Vec<&Tool>> {
        match &self.choice {
            Choice::Auto => None,
            Choice::Required => Some(self.list.iter().collect()),
            Choice::Named(name) => Some(self.list.iter().filter(|tool| tool.name == *name).collect()),
        }
    }

    /// Whether there is a tool of a name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|tool| tool.name == name)
    }
}

fn list(tools: &Value) -> Result<Vec<Tool>> {
    let items = tools.as_array().ok_or_else(|| wrong("tools", "a list of tools", tools))?;
    if items.len() > MOST_TOOLS {
        let detail = format!("`tools` lists {} tools, it may list {MOST_TOOLS}", items.len());
        return Err(Problem::new(Code::TooLarge, detail).under("tools"));
    }
    let tool = |(i, item): (usize, &Value)| Tool::parse(item).map_err(|problem| problem.under(i).under("tools"));
    items.iter().enumerate().map(tool).collect()
}

impl Tool {
    fn parse(item: &Value) -> Result<Self> {
        let what = "{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": {…}}}";
        let function = item.get("function").filter(|_| item.get("type").is_none_or(|kind| kind == "function"));
        let function = function
            .and_then(Value::as_object)
            .ok_or_else(|| Problem::new(Code::BadArgument, format!("a tool is {what}")))?;
        let name = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            Problem::new(Code::BadArgument, "a function has a `name`").under("name").under("function")
        })?;
        let parameters = function.get("parameters").filter(|parameters| !parameters.is_null());
        let parameters = parameters.cloned().unwrap_or(json!({"type": "object"}));
        if !parameters.is_object() {
            return Err(wrong("parameters", "a JSON Schema, which is an object", &parameters).under("function"));
        }
        Ok(Self { name: name.to_owned(), parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value) -> Result<Option<Tools>> {
        Tools::parse(&mut Fields::new("a chat completion", body.as_object().unwrap()))
    }

    #[test]
    fn which_have_to_be_called() {
        let tools = json!([
            {"type": "function", "function": {"name": "a"}},
            {"type": "function", "function": {"name": "b", "parameters": {"type": "object", "properties": {}}}}
        ]);
        let forced = |choice: Value| {
            let tools = parse(&json!({"tools": tools, "tool_choice": choice})).unwrap();
            tools.map(|tools| tools.forced().map(|forced| forced.into_iter().cloned().collect::<Vec<_>>()))
        };
        assert_eq!(forced(json!("none")), None);
        assert_eq!(forced(json!("auto")), Some(None));
        assert_eq!(forced(json!("required")).unwrap().unwrap().len(), 2);
        let named = forced(json!({"type": "function", "function": {"name": "b"}})).unwrap().unwrap();
        assert_eq!((named.len(), named[0].name.as_str()), (1, "b"));
        assert_eq!(parse(&json!({"tools": []})).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_pointed_to() {
        let function = json!({"type": "function", "function": {"name": "a"}});
        for (body, pointer) in [
            (json!({"tools": {}}), "/tools"),
            (json!({"tools": [function, {"type": "web"}]}), "/tools/1"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "/tools/0/function/name"),
            (json!({"tools": [{"function": {"name": "a", "parameters": 3}}]}), "/tools/0/function/parameters"),
            (json!({"tools": [function], "tool_choice": "any"}), "/tool_choice"),
            (
                json!({"tools": [function], "tool_choice": {"type": "function", "function": {"name": "b"}}}),
                "/tool_choice/function/name",
            ),
            (json!({"tool_choice": "required"}), "/tool_choice"),
        ] {
            assert_eq!(parse(&body).unwrap_err().pointer, pointer, "{body}");
        }
    }
}
