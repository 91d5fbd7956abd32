//! OpenAI's `response_format`, as a constraint.

use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use serde_json::{Value, json};

/// The constraint of a format; nothing where any text will do.
///
/// # Errors
/// It is none of OpenAI's.
pub(super) fn constraint(format: &Value) -> Result<Option<Value>> {
    let what = "{\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", \"json_schema\": {\"schema\": {…}}}";
    let kind = format.get("type").and_then(Value::as_str);
    match kind {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"json": true}))),
        Some("json_schema") => schema(format).map(Some).map_err(|problem| problem.under("response_format")),
        _ => Err(wrong("response_format", what, format)),
    }
}

fn schema(format: &Value) -> Result<Value> {
    let missing = |what: &str, name: &str| Problem::new(Code::BadArgument, what).under(name);
    let object = format.get("json_schema").and_then(Value::as_object);
    let object = object.ok_or_else(|| missing("`json_schema` is an object with a `schema`", "json_schema"))?;
    let mut fields = Fields::new("`json_schema`", object);
    for idle in ["name", "description", "strict"] {
        fields.get(idle);
    }
    let schema = fields.get("schema").ok_or_else(|| missing("there is no `schema`", "json_schema"))?;
    fields.finish().map_err(|problem| problem.under("json_schema"))?;
    if !schema.is_object() {
        return Err(wrong("schema", "a JSON Schema, which is an object", schema).under("json_schema"));
    }
    Ok(json!({"json_schema": schema}))
}
