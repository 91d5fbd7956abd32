//! Weights of a Hugging Face folder: one `model.safetensors`, or an index and its shards.
//!
//! The index (`model.safetensors.index.json`) only says which files to open; what tensors there are is read from the
//! files themselves, and then held against the index. A shard's name is a plain file name: an index cannot reach out of
//! its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use super::{Entry, Stored, Weights};
use crate::mmap::MappedFile;
use crate::progress::{Progress, ProgressEvent};
use crate::{CheckpointError, Config};

/// The one-file form's name.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The index of the form in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// A tensor stored as plain numbers.
struct Plain {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
}

impl Stored for Plain {
    fn read(&self, bytes: &[u8], device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_raw_buffer(bytes, DType::try_from(self.dtype)?, &self.shape, device)
    }
}

impl Weights {
    /// Opens the weights of a folder.
    pub(crate) fn open_folder(folder: &Path, progress: Progress<'_>) -> Result<Self, CheckpointError> {
        let index = folder.join(INDEX);
        let single = folder.join(SINGLE);
        if single.is_file() {
            return Self::open_files(folder, vec![single], progress);
        }
        if !index.is_file() {
            return Err(CheckpointError::MissingFile {
                folder: folder.to_path_buf(),
                file: format!("{SINGLE} or {INDEX}"),
                hint: "Weights in another form have to be saved as safetensors first (save_pretrained does it)".into(),
            });
        }
        let shards = read_index(&index)?;
        let files: BTreeSet<&str> = shards.values().map(String::as_str).collect();
        if let Some(missing) = files.iter().find(|name| !folder.join(name).is_file()) {
            return Err(CheckpointError::MissingFile {
                folder: folder.to_path_buf(),
                file: (*missing).to_owned(),
                hint: format!("{INDEX} lists {} shards; download this one again", files.len()),
            });
        }
        let weights = Self::open_files(folder, files.iter().map(|name| folder.join(name)).collect(), progress)?;
        match shards.iter().find(|(name, _)| !weights.contains(name)) {
            Some((name, shard)) => {
                Err(CheckpointError::malformed(&index, format!("it puts tensor `{name}` into {shard}, which lacks it")))
            }
            None => Ok(weights),
        }
    }

    fn open_files(folder: &Path, files: Vec<PathBuf>, progress: Progress<'_>) -> Result<Self, CheckpointError> {
        let total = files.len() as u64;
        let mut entries = BTreeMap::new();
        for (done, path) in files.into_iter().enumerate() {
            let what = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            progress(ProgressEvent { stage: "open", what, done: done as u64, total });
            read_header(path, &mut entries)?;
        }
        let origin = match entries.values().next() {
            Some(Entry { file, .. }) if total == 1 => file.0.clone(),
            _ => folder.to_path_buf(),
        };
        Ok(Self { origin, entries })
    }
}

/// The shard of each tensor, as an index lists them.
pub(crate) fn read_index(index: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let config = Config::from_file(index)?;
    let map = config.section("weight_map").ok_or_else(|| config.wrong("weight_map", "an object of tensor and file"))?;
    let mut shards = BTreeMap::new();
    for (tensor, shard) in map.raw().as_object().into_iter().flatten() {
        let shard = shard
            .as_str()
            .filter(|name| is_plain_file_name(name))
            .ok_or_else(|| map.wrong(tensor, "the name of a .safetensors file in the same folder"))?;
        shards.insert(tensor.clone(), shard.to_owned());
    }
    Ok(shards)
}

/// Whether a name stays in its folder, on every system: no separators, no drive, not hidden, not `..`.
fn is_plain_file_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// The first tensor that the header of a file lists and that the file is too short for.
fn cut_off(file: &[u8]) -> Option<String> {
    let (length, rest) = file.split_first_chunk::<{ size_of::<u64>() }>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let end = |info: &serde_json::Value| info.get("data_offsets")?.get(1)?.as_u64();
    let ends = header.iter().filter_map(|(name, info)| Some((end(info)?, name)));
    ends.filter(|(end, _)| *end > data.len() as u64).min().map(|(_, name)| name.clone())
}

/// Adds the tensors of one file.
fn read_header(path: PathBuf, entries: &mut BTreeMap<String, Entry>) -> Result<(), CheckpointError> {
    let map = MappedFile::open(&path)?;
    let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
        let cut = cut_off(&map).map_or_else(String::new, |tensor| format!(", cut off in tensor `{tensor}`"));
        let length = map.len();
        let detail = format!("this is not a whole safetensors file ({error}; {length} bytes{cut}). Download it again");
        CheckpointError::malformed(&path, detail)
    })?;
    let file = Arc::new((path, map));
    let start = header + size_of::<u64>();
    for (name, info) in metadata.tensors() {
        let bytes = start.saturating_add(info.data_offsets.0)..start.saturating_add(info.data_offsets.1);
        if file.1.get(bytes.clone()).is_none() {
            let detail = format!("tensor `{name}` claims bytes {bytes:?} of {}", file.1.len());
            return Err(CheckpointError::malformed(&file.0, detail));
        }
        let stored = Box::new(Plain { dtype: info.dtype, shape: info.shape.clone() });
        let entry = Entry { file: file.clone(), bytes, shape: info.shape.clone(), stored };
        if let Some(other) = entries.insert(name.clone(), entry) {
            let detail = format!("tensor `{name}` is also in {}", other.file.0.display());
            return Err(CheckpointError::malformed(&file.0, detail));
        }
    }
    Ok(())
}
