//! Copies of a golden model, to be damaged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::golden;

/// A copy in a folder of its own.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// A copy of this golden model.
    pub(crate) fn copy(model: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(model).tempdir().unwrap();
        for entry in std::fs::read_dir(golden(model)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with("golden") {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        Self(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The same as an argument.
    pub(crate) fn source(&self) -> String {
        self.path().display().to_string()
    }

    /// Writes a file anew.
    pub(crate) fn write(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.file(name), bytes).unwrap();
        self
    }

    /// Removes a file.
    pub(crate) fn remove(self, name: &str) -> Self {
        std::fs::remove_file(self.file(name)).unwrap();
        self
    }

    /// Cuts a file off after so many bytes.
    pub(crate) fn cut(self, name: &str, length: u64) -> Self {
        std::fs::File::options().write(true).open(self.file(name)).unwrap().set_len(length).unwrap();
        self
    }

    /// Changes a key of `config.json`.
    pub(crate) fn configure(self, key: &str, value: Value) -> Self {
        let mut config: Value = serde_json::from_slice(&std::fs::read(self.file("config.json")).unwrap()).unwrap();
        config[key] = value;
        self.write("config.json", config.to_string())
    }

    /// Changes the tensors of `model.safetensors`.
    pub(crate) fn change(self, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> Self {
        let mut tensors = candle_core::safetensors::load(self.file("model.safetensors"), &Device::Cpu).unwrap();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, self.file("model.safetensors")).unwrap();
        self
    }
}
