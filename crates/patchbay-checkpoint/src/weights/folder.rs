//! Weights of a Hugging Face folder: one file, or an index and its shards.
//!
//! The index only says which files to open; what tensors there are is read from the files themselves, and then held
//! against the index. A shard's name is a plain file name: an index cannot reach out of its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Entry, Weights, mxfp4, safetensors, scales, torch};
use crate::progress::{Progress, ProgressEvent};
use crate::quantization::Quantization;
use crate::{CheckpointError, Config};

/// A form that weights come in.
pub(crate) struct Format {
    /// The one-file form's name.
    pub(crate) single: &'static str,
    /// The index of the form in several files.
    pub(crate) index: &'static str,
    /// How the names of its files end.
    extension: &'static str,
    /// Adds the tensors of one file.
    read: fn(PathBuf, &mut BTreeMap<String, Entry>) -> Result<(), CheckpointError>,
}

/// The forms that are read, the one that is taken where a folder has both first.
pub(crate) const FORMATS: [Format; 2] = [
    Format {
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        extension: ".safetensors",
        read: safetensors::read_header,
    },
    Format {
        single: "pytorch_model.bin",
        index: "pytorch_model.bin.index.json",
        extension: ".bin",
        read: torch::read_header,
    },
];

impl Weights {
    /// Opens the weights of a folder, which are quantised as its configuration says.
    pub(crate) fn open_folder(
        folder: &Path,
        quantization: Option<&Quantization>,
        progress: Progress<'_>,
    ) -> Result<Self, CheckpointError> {
        let mut weights = Self::open_stored(folder, progress)?;
        match quantization {
            Some(Quantization { mxfp4: true, .. }) => mxfp4::join(&mut weights.entries)?,
            other => scales::attach(&mut weights.entries, other)?,
        }
        Ok(weights)
    }

    /// Opens the tensors as they are stored.
    fn open_stored(folder: &Path, progress: Progress<'_>) -> Result<Self, CheckpointError> {
        for format in &FORMATS {
            let single = folder.join(format.single);
            if single.is_file() {
                return Self::open_files(folder, vec![single], format, progress);
            }
            let index = folder.join(format.index);
            if index.is_file() {
                return Self::open_shards(folder, &index, format, progress);
            }
        }
        let [safetensors, torch] = &FORMATS;
        Err(CheckpointError::MissingFile {
            folder: folder.to_path_buf(),
            file: format!("{}, {} or {}", safetensors.single, safetensors.index, torch.single),
            hint: "Weights in another form have to be saved as safetensors first (save_pretrained does it)".into(),
        })
    }

    fn open_shards(
        folder: &Path,
        index: &Path,
        format: &Format,
        progress: Progress<'_>,
    ) -> Result<Self, CheckpointError> {
        let shards = format.read_index(index)?;
        let files: BTreeSet<&str> = shards.values().map(String::as_str).collect();
        if let Some(missing) = files.iter().find(|name| !folder.join(name).is_file()) {
            return Err(CheckpointError::MissingFile {
                folder: folder.to_path_buf(),
                file: (*missing).to_owned(),
                hint: format!("{} lists {} shards; download this one again", format.index, files.len()),
            });
        }
        let files = files.iter().map(|name| folder.join(name)).collect();
        let weights = Self::open_files(folder, files, format, progress)?;
        match shards.iter().find(|(name, _)| !weights.contains(name)) {
            Some((name, shard)) => {
                Err(CheckpointError::malformed(index, format!("it puts tensor `{name}` into {shard}, which lacks it")))
            }
            None => Ok(weights),
        }
    }

    fn open_files(
        folder: &Path,
        files: Vec<PathBuf>,
        format: &Format,
        progress: Progress<'_>,
    ) -> Result<Self, CheckpointError> {
        let total = files.len() as u64;
        let mut entries = BTreeMap::new();
        for (done, path) in files.into_iter().enumerate() {
            let what = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            progress(ProgressEvent { stage: "open", what, done: done as u64, total });
            (format.read)(path, &mut entries)?;
        }
        let origin = match entries.values().next() {
            Some(Entry { file, .. }) if total == 1 => file.0.clone(),
            _ => folder.to_path_buf(),
        };
        Ok(Self { origin, entries })
    }
}

impl Format {
    /// The shard of each tensor, as an index lists them.
    pub(crate) fn read_index(&self, index: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
        let config = Config::from_file(index)?;
        let map =
            config.section("weight_map").ok_or_else(|| config.wrong("weight_map", "an object of tensor and file"))?;
        let mut shards = BTreeMap::new();
        for (tensor, shard) in map.raw().as_object().into_iter().flatten() {
            let shard = shard.as_str().filter(|name| self.is_plain_file_name(name)).ok_or_else(|| {
                map.wrong(tensor, &format!("the name of a {} file in the same folder", self.extension))
            })?;
            shards.insert(tensor.clone(), shard.to_owned());
        }
        Ok(shards)
    }

    /// Whether a name stays in its folder, on every system: no separators, no drive, not hidden, not `..`.
    fn is_plain_file_name(&self, name: &str) -> bool {
        name.ends_with(self.extension) && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
    }
}
