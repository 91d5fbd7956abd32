//! A request over the rows of a file, whose results are written beside it: to be stopped and gone on with at any time.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use crate::backend::Backend;
use crate::cli::DatasetCommand;
use crate::{print, request};

/// The columns of one row.
type Row = Map<String, Value>;

impl DatasetCommand {
    /// Runs the request for every batch of rows whose results are not there.
    pub(crate) async fn dataset(&self) -> anyhow::Result<()> {
        let mut body = request::parse(&self.file)?;
        ensure!(
            self.rows.extension().is_none_or(|end| end != "parquet"),
            "rows are JSONL here; the Python package reads Parquet"
        );
        for field in ["async", "explain"] {
            ensure!(
                body.get(field).is_none_or(|asked| *asked == false),
                "a dataset needs results: leave `{field}` out"
            );
        }
        request::as_safetensors(&mut body);
        fs::create_dir_all(&self.into).with_context(|| format!("{} cannot be made", self.into.display()))?;
        self.claim(&body)?;
        let backend = Backend::open_for(&self.place, self.model.as_ref(), &mut body).await?;
        let lines = BufReader::new(File::open(&self.rows)?).lines();
        let (mut batch, mut number, mut made, mut there) = (Vec::new(), 0, 0, 0);
        let mut lines = lines.enumerate().peekable();
        while let Some((place, line)) = lines.next() {
            let line = line.with_context(|| format!("{} cannot be read", self.rows.display()))?;
            if !line.trim().is_empty() {
                batch.push(row(&line).with_context(|| format!("line {} of {}", place + 1, self.rows.display()))?);
            }
            if batch.len() == self.batch_size || (lines.peek().is_none() && !batch.is_empty()) {
                let file = self.into.join(format!("part-{number:05}.safetensors"));
                if file.exists() {
                    there += 1;
                } else {
                    let what =
                        || format!("the {} rows up to line {} of {}", batch.len(), place + 1, self.rows.display());
                    write(&backend, filled(&body, &batch).with_context(what)?, &file).await.with_context(what)?;
                    made += 1;
                }
                batch.clear();
                number += 1;
            }
        }
        print::text(&format!("{made} parts written, {there} were there: {}\n", self.into.display()))
    }

    /// Says what the folder is for, or sees that it is for the same.
    fn claim(&self, body: &Value) -> anyhow::Result<()> {
        let rows = digest(&self.rows).with_context(|| format!("{} cannot be read", self.rows.display()))?;
        let told = json!({"request": body, "model": self.model, "batch_size": self.batch_size, "rows": rows});
        let manifest = self.into.join("manifest.json");
        let Ok(before) = fs::read(&manifest) else {
            return replace(&manifest, &serde_json::to_vec_pretty(&told)?);
        };
        let before: Value = serde_json::from_slice(&before).unwrap_or_default();
        let other: Vec<_> =
            ["request", "model", "batch_size", "rows"].into_iter().filter(|key| told[key] != before[key]).collect();
        ensure!(
            other.is_empty(),
            "{} has parts of another run: another {}; take another folder",
            self.into.display(),
            other.join(" and ")
        );
        Ok(())
    }
}

/// What tells a file's content from another's.
fn digest(file: &Path) -> std::io::Result<String> {
    let (mut reader, mut hasher) = (BufReader::new(File::open(file)?), blake3::Hasher::new());
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(bytes);
        let count = bytes.len();
        reader.consume(count);
    }
}

/// One line.
fn row(line: &str) -> anyhow::Result<Row> {
    match serde_json::from_str(line)? {
        Value::Object(row) => Ok(row),
        other => anyhow::bail!("an object with a value for each column was expected, found `{other}`"),
    }
}

/// The request with the batch's columns in the place of strings that are `{column}` and nothing else.
fn filled(value: &Value, batch: &[Row]) -> anyhow::Result<Value> {
    Ok(match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok((name.clone(), filled(value, batch)?)));
            Value::Object(fields.collect::<anyhow::Result<_>>()?)
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| filled(item, batch)).collect::<anyhow::Result<_>>()?)
        }
        Value::String(text) => match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some(column) => batch.iter().map(|row| cell(row, column)).collect::<anyhow::Result<_>>()?,
            None => value.clone(),
        },
        _ => value.clone(),
    })
}

fn cell(row: &Row, column: &str) -> anyhow::Result<Value> {
    let columns = || row.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    row.get(column).cloned().with_context(|| format!("a row has no column `{column}`; it has {}", columns()))
}

/// Runs a request, and writes its answer: all of it, or nothing.
async fn write(backend: &Backend, mut body: Value, file: &Path) -> anyhow::Result<()> {
    let recipe = body.as_object_mut().and_then(|fields| fields.remove("recipe"));
    let answer = match recipe.as_ref().map(|recipe| recipe.as_str().context("`recipe` must be a recipe's name")) {
        Some(recipe) => backend.recipe(recipe?, body).await?,
        None => backend.trace(body, patchbay_graph::Encoding::Safetensors).await?,
    };
    replace(file, &answer)
}

/// Writes a file that is there as a whole or not at all.
fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let part = file.with_extension("part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, file))
        .with_context(|| format!("{} cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_take_the_place_of_their_names() {
        let batch: Vec<Row> =
            [r#"{"text": "a", "n": 1}"#, r#"{"text": "b", "n": 2}"#].iter().map(|line| row(line).unwrap()).collect();
        assert_eq!(filled(&json!({"input": "{text}", "k": 3}), &batch).unwrap(), json!({"input": ["a", "b"], "k": 3}));
        assert_eq!(filled(&json!(["layers.{n}.output", "{"]), &batch).unwrap(), json!(["layers.{n}.output", "{"]));
        let missing = format!("{:#}", filled(&json!("{word}"), &batch).unwrap_err());
        assert!(missing.contains("`word`") && missing.contains("`text`"), "{missing}");
        assert!(row("[1]").is_err() && row("{").is_err());
    }
}
