//! A model's configuration: `config.json`, or the same keys made from a GGUF file's metadata.
//!
//! A [`Config`] is JSON that knows which file it came from and where in it, so that every getter's error can say
//! which key of which file is wrong. What the keys mean is the business of whoever builds the model; both the old
//! (`rope_theta`, `rope_scaling`) and the new (`rope_parameters`) forms are handed on as they stand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::CheckpointError;

/// A configuration, or a section of one.
#[derive(Clone, Debug)]
pub struct Config {
    file: PathBuf,
    /// Dotted path of this section, with its final dot; empty at the root.
    prefix: String,
    value: Value,
}

impl Config {
    /// Takes a JSON object as the configuration in `file`.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] when the value is not an object.
    pub fn from_json(file: impl Into<PathBuf>, value: Value) -> Result<Self, CheckpointError> {
        let file = file.into();
        if value.is_object() {
            Ok(Self { file, prefix: String::new(), value })
        } else {
            Err(CheckpointError::Malformed { detail: format!("expected a JSON object, found {}", kind(&value)), file })
        }
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] or [`CheckpointError::Malformed`] when it cannot be read or is not a JSON object.
    pub fn from_file(file: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(file).map_err(CheckpointError::io(file, "read"))?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| CheckpointError::malformed(file, format!("this is not valid JSON: {error}")))?;
        Self::from_json(file, value)
    }

    /// The file the configuration came from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The JSON object.
    pub fn raw(&self) -> &Value {
        &self.value
    }

    /// The value of a key, unless it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// The token ids under a key, where one stands or a list of them.
    pub fn token_ids(&self, key: &str) -> Vec<u32> {
        let ids = match self.get(key) {
            Some(Value::Array(ids)) => ids.as_slice(),
            Some(id) => std::slice::from_ref(id),
            None => &[],
        };
        ids.iter().filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    }

    /// The section under a key, if an object stands there.
    pub fn section(&self, key: &str) -> Option<Self> {
        let value = self.get(key).filter(|value| value.is_object())?.clone();
        Some(Self { file: self.file.clone(), prefix: format!("{}{key}.", self.prefix), value })
    }

    /// The same with the values of these keys where it does not have them, not even as `null`.
    #[must_use]
    pub fn or(mut self, defaults: &[(&str, Value)]) -> Self {
        if let Value::Object(map) = &mut self.value {
            for (key, value) in defaults {
                map.entry(*key).or_insert_with(|| value.clone());
            }
        }
        self
    }

    /// The same with this value at a key, whatever stood there.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        if let Value::Object(map) = &mut self.value {
            map.insert(key.to_owned(), value);
        }
        self
    }

    /// The architecture's name, `model_type`.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when it is absent or not a string.
    pub fn model_type(&self) -> Result<&str, CheckpointError> {
        self.opt_str("model_type")?.ok_or_else(|| self.wrong("model_type", "the name of an architecture, as \"llama\""))
    }

    /// A whole number of at least 0.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when it is absent or something else. The other getters fail alike.
    pub fn usize(&self, key: &str) -> Result<usize, CheckpointError> {
        self.opt_usize(key)?.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    /// A whole number, or `default` where the key is absent.
    ///
    /// # Errors
    /// As [`usize`](Self::usize), where something else stands there.
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        Ok(self.opt_usize(key)?.unwrap_or(default))
    }

    /// A whole number, or nothing where the key is absent.
    ///
    /// # Errors
    /// As [`usize`](Self::usize), where something else stands there.
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        self.typed(key, "a whole number of at least 0", |value| value.as_u64().and_then(|n| n.try_into().ok()))
    }

    /// A finite number.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when it is absent or something else.
    pub fn f64(&self, key: &str) -> Result<f64, CheckpointError> {
        self.opt_f64(key)?.ok_or_else(|| self.wrong(key, "a number"))
    }

    /// A finite number, or `default` where the key is absent.
    ///
    /// # Errors
    /// As [`f64`](Self::f64), where something else stands there.
    pub fn f64_or(&self, key: &str, default: f64) -> Result<f64, CheckpointError> {
        Ok(self.opt_f64(key)?.unwrap_or(default))
    }

    /// A finite number, or nothing where the key is absent.
    ///
    /// # Errors
    /// As [`f64`](Self::f64), where something else stands there.
    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        self.typed(key, "a number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// `true` or `false`, or `default` where the key is absent.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when something else stands there.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A string, or nothing where the key is absent.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when something else stands there.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, CheckpointError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A list of finite numbers, or nothing where the key is absent.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when something else stands there.
    pub fn opt_f64_list(&self, key: &str) -> Result<Option<Vec<f64>>, CheckpointError> {
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(|item| item.as_f64().filter(|number| number.is_finite())).collect()
        })
    }

    /// A list of strings, or nothing where the key is absent.
    ///
    /// # Errors
    /// [`CheckpointError::Config`] when something else stands there.
    pub fn opt_str_list(&self, key: &str) -> Result<Option<Vec<&str>>, CheckpointError> {
        self.typed(key, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// An error about a key, for whoever finds its value impossible: `expected` completes "must be …".
    pub fn wrong(&self, key: &str, expected: &str) -> CheckpointError {
        CheckpointError::Config {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            found: self.value.get(key).map_or_else(|| "absent".to_owned(), kind),
            expected: expected.to_owned(),
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong(key, expected))
    }
}

/// A value in a few words: itself where it is short.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {} items", items.len()),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string().chars().take(80).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Config {
        Config::from_json("m/config.json", value).unwrap()
    }

    #[test]
    fn getters_read_what_is_there_and_default_what_is_absent_or_null() {
        let config = config(json!({"n": 3, "eps": 1e-5, "tied": true, "act": "silu", "none": null, "ints": [1, 2.5]}));
        assert_eq!(config.usize("n").unwrap(), 3);
        assert_eq!(config.usize_or("none", 7).unwrap(), 7);
        assert_eq!(config.opt_usize("absent").unwrap(), None);
        assert_eq!(config.f64("n").unwrap(), 3.0);
        assert_eq!(config.f64_or("eps", 1.0).unwrap(), 1e-5);
        assert!(config.flag("tied", false).unwrap());
        assert_eq!(config.opt_str("act").unwrap(), Some("silu"));
        assert_eq!(config.opt_f64_list("ints").unwrap(), Some(vec![1.0, 2.5]));
    }

    #[test]
    fn defaults_stand_in_for_absent_keys_alone() {
        let config = config(json!({"n": 3, "none": null})).or(&[("n", json!(4)), ("none", json!(5)), ("m", json!(6))]);
        assert_eq!(config.usize("n").unwrap(), 3);
        assert_eq!(config.opt_usize("none").unwrap(), None);
        assert_eq!(config.usize("m").unwrap(), 6);
        assert_eq!(config.with("n", json!(9)).usize("n").unwrap(), 9);
    }

    #[test]
    fn errors_name_file_key_found_and_expected() {
        let config = config(json!({"rope_parameters": {"rope_theta": "big"}, "n": -1}));
        let section = config.section("rope_parameters").unwrap();
        assert_eq!(
            section.f64("rope_theta").unwrap_err().to_string(),
            "m/config.json: `rope_parameters.rope_theta` is \"big\", but must be a number"
        );
        assert_eq!(
            config.usize("n").unwrap_err().to_string(),
            "m/config.json: `n` is -1, but must be a whole number of at least 0"
        );
        assert!(config.model_type().unwrap_err().to_string().contains("`model_type` is absent"));
        assert!(Config::from_json("c.json", json!([1])).unwrap_err().to_string().contains("a list of 1 items"));
    }
}
