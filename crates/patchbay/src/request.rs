//! The body of a trace from a file, whose graph may be text.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use patchbay_server::wire::json;
use serde_json::{Value, json};

/// Reads a body, or a graph alone, and puts `inputs`, if there are any, in place of its own.
pub(crate) fn read(file: &Path, inputs: &[String]) -> anyhow::Result<Value> {
    let mut body = parse(file)?;
    if let (Some(fields), [_, ..]) = (body.as_object_mut(), inputs) {
        fields.remove("inputs");
        fields.insert("input".to_owned(), json!(inputs));
    }
    if body.get("input").is_none() && body.get("inputs").is_none() {
        anyhow::bail!("{} has no input: give one with --input TEXT", file.display());
    }
    Ok(body)
}

/// Reads a body, or a graph alone.
pub(crate) fn parse(file: &Path) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    match file == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut bytes).map(drop),
        false => std::fs::read(file).map(|read| bytes = read),
    }
    .with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(match bytes.trim_ascii_start().first() {
        Some(b'{') => json::parse(&bytes).with_context(|| file.display().to_string())?,
        Some(b'[') => json!({ "graph": json::parse(&bytes).with_context(|| file.display().to_string())? }),
        Some(_) => json!({ "graph": String::from_utf8(bytes).with_context(|| file.display().to_string())? }),
        None => anyhow::bail!("{} is empty", file.display()),
    })
}

/// Has the answer come as safetensors.
pub(crate) fn as_safetensors(body: &mut Value) {
    let output = body.as_object_mut().map(|body| body.entry("output").or_insert_with(|| json!({})));
    if let Some(output) = output.and_then(Value::as_object_mut) {
        output.insert("encoding".to_owned(), "safetensors".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, inputs: &[&str]) -> anyhow::Result<Value> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), &inputs.iter().map(|input| (*input).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_body_or_a_graph_alone() {
        let body = read_text(r#"{"inputs": {"a": "x"}, "graph": []}"#, &[]).unwrap();
        assert_eq!(body, json!({"inputs": {"a": "x"}, "graph": []}));
        let body = read_text(r#"{"inputs": {"a": "x"}, "graph": []}"#, &["y"]).unwrap();
        assert_eq!(body, json!({"graph": [], "input": ["y"]}));
        assert_eq!(read_text("[]", &["y"]).unwrap()["graph"], json!([]));
        assert_eq!(read_text("save logits as x\n", &["y"]).unwrap()["graph"], json!("save logits as x\n"));
        for (text, said) in [("[]", "--input"), (" ", "empty"), ("{", "EOF")] {
            let error = format!("{:#}", read_text(text, &[]).unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
