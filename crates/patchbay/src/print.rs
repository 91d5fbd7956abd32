//! What the commands print.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// Prints text on standard output. A reader that has seen enough and closed the pipe is no error.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Prints bytes on standard output, as [`text`] does.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints what went wrong on standard error: a refusal in the words of the server, with its place and hint.
pub(crate) fn error(error: &anyhow::Error) {
    // Nothing is left to be told where even this cannot be written.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

/// Writes an answer to a file, or prints it with a newline at the end.
pub(crate) fn answer(answer: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(file) => std::fs::write(file, answer).with_context(|| format!("{} cannot be written", file.display())),
        None => bytes(answer).and_then(|()| bytes(b"\n")),
    }
}

/// Prints a value as JSON.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    answer(&serde_json::to_vec_pretty(value)?, None)
}

/// Prints a list of models.
pub(crate) fn models(list: &Value) -> anyhow::Result<()> {
    let row = |model: &Value| {
        ["id", "status", "architecture", "parameters", "layers", "hidden", "context", "dtype", "device", "source"]
            .map(|key| cell(&model[key]))
            .to_vec()
    };
    let head = ["name", "status", "type", "parameters", "layers", "hidden", "context", "dtype", "device", "source"];
    table(&head, rows(&list["data"], row))
}

/// Prints a model's sites.
pub(crate) fn tree(tree: &Value) -> anyhow::Result<()> {
    let sizes = |list: &Value| rows(list, cell).join(" ");
    let row = |site: &Value| {
        let layers = match site["layers"].as_array().map(Vec::as_slice) {
            Some([first, last]) => format!("{first} to {last}"),
            _ => String::new(),
        };
        vec![cell(&site["name"]), sizes(&site["axes"]), sizes(&site["shape"]), layers, cell(&site["about"])]
    };
    table(&["site", "axes", "shape", "layers", "what it is"], rows(&tree["sites"], row))
}

/// Prints what checks found.
pub(crate) fn checks(checks: &Value) -> anyhow::Result<()> {
    let verdict = |check: &Value| if check["passed"] == true { "passed" } else { "FAILED" }.to_owned();
    let row = |check: &Value| vec![cell(&check["name"]), verdict(check), cell(&check["detail"])];
    table(&["check", "", "found"], rows(&checks["checks"], row))?;
    let proof = &checks["proof"];
    let proven = proof["proven"].as_array().map_or(0, Vec::len);
    let goldens = rows(&proof["goldens"], cell).join(", ");
    text(&format!(
        "\narchitecture {}: {}, {proven} kinds of sites held against Hugging Face transformers ({goldens})\n",
        cell(&proof["architecture"]),
        cell(&proof["status"]),
    ))?;
    for warning in rows(&checks["warnings"], cell) {
        text(&format!("warning: {warning}\n"))?;
    }
    if !checks["against"].is_array() {
        return Ok(());
    }
    text("\n")?;
    let row = |site: &Value| vec![cell(&site["site"]), verdict(site), cell(&site["detail"])];
    table(&["site", "", "difference"], rows(&checks["against"], row))
}

fn rows<T>(list: &Value, row: impl Fn(&Value) -> T) -> Vec<T> {
    list.as_array().map(|list| list.iter().map(row).collect()).unwrap_or_default()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Columns as wide as their widest cell, the last one as it is.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(&rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        format!("{}\n", cells.join("  ").trim_end())
    };
    text(&all.iter().map(line).collect::<String>())
}
