//! Named tensors, each read from its mapped file when it is asked for.
//!
//! Opening reads headers only; [`Weights::get`] turns one tensor's bytes into a candle tensor of the wanted type on
//! the wanted device, on all cores. Plain numbers are written straight from the file into the tensor, so peak memory
//! is what the model keeps; blocks of a GGUF file take one tensor more. Tensors may be read from several threads.

mod float8;
mod folder;
mod gguf;
mod mxfp4;
mod numbers;
mod part;
mod safetensors;
mod scales;
mod torch;

pub(crate) use folder::FORMATS;
pub use part::Part;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::CheckpointError;
use crate::mmap::MappedFile;

/// How a tensor's bytes become numbers.
trait Stored: Send + Sync {
    /// Reads a part of the tensor onto a device, as numbers of the type `dtype`; all of it where parts cannot be read.
    fn read(&self, bytes: &[u8], part: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor>;

    /// Whether a part can be read without the rest.
    fn has_parts(&self) -> bool {
        true
    }

    /// The type of the numbers, where each is stored alone.
    fn dtype(&self) -> Option<::safetensors::Dtype> {
        None
    }
}

/// One tensor of one file.
struct Entry {
    file: Arc<(PathBuf, MappedFile)>,
    /// Where its bytes lie, one run after the other. Checked to be inside the file when the entry is made.
    bytes: Vec<Range<usize>>,
    /// Its shape as Hugging Face has it, which is what [`Stored::read`] gives.
    shape: Vec<usize>,
    stored: Box<dyn Stored>,
}

impl Entry {
    /// How many bytes it takes.
    fn len(&self) -> usize {
        self.bytes.iter().map(Range::len).sum()
    }

    /// Its bytes; copied only where they lie in several runs.
    fn bytes(&self) -> Cow<'_, [u8]> {
        let map = &self.file.1;
        match self.bytes.as_slice() {
            [run] => Cow::Borrowed(&map[run.clone()]),
            runs => Cow::Owned(runs.iter().flat_map(|run| &map[run.clone()]).copied().collect()),
        }
    }

    /// Reads a part of the tensor.
    fn read_part(&self, part: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.stored.read(&self.bytes(), part, dtype, device)
    }

    /// Reads all of the tensor.
    fn read(&self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.read_part(&Part::of(&self.shape), dtype, device)
    }

    fn unread(&self, name: &str, source: candle_core::Error) -> CheckpointError {
        CheckpointError::Tensor { file: self.file.0.clone(), name: name.to_owned(), source: Box::new(source) }
    }
}

/// Adds a tensor, which no other file may have too.
fn insert(entries: &mut BTreeMap<String, Entry>, name: String, entry: Entry) -> Result<(), CheckpointError> {
    if let Some(other) = entries.get(&name) {
        let detail = format!("tensor `{name}` is also in {}", other.file.0.display());
        return Err(CheckpointError::malformed(&entry.file.0, detail));
    }
    entries.insert(name, entry);
    Ok(())
}

/// The tensors of a model, under Hugging Face's names.
pub struct Weights {
    /// The file, or the folder, that errors name when a tensor is missing.
    origin: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Weights {
    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Size of all tensors as they are stored, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.len() as u64).sum()
    }

    /// Number of parameters: the elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.entries.values().map(|entry| entry.shape.iter().map(|&size| size as u64).product::<u64>()).sum()
    }

    /// The file or folder the weights come from.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Reads one tensor, which must have this shape, as numbers of the type `dtype` on `device`. Quantised tensors are
    /// dequantised.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`], [`CheckpointError::Shape`] or [`CheckpointError::Tensor`], each with the
    /// tensor's name and file.
    pub fn get(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        let entry = self.find(name, shape)?;
        entry.read(dtype, device).map_err(|source| entry.unread(name, source))
    }

    /// Reads a part of one tensor, which must have this shape, without holding the rest of it. Nothing where the format
    /// keeps no part alone: there [`get`](Self::get) has to read all of it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_part(
        &self,
        name: &str,
        shape: &[usize],
        part: &Part,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Tensor>, CheckpointError> {
        let entry = self.find(name, shape)?;
        let read = || entry.read_part(part, dtype, device).map_err(|source| entry.unread(name, source));
        entry.stored.has_parts().then(read).transpose()
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<&Entry, CheckpointError> {
        let entry = self.entries.get(name).ok_or_else(|| self.missing(name))?;
        if entry.shape == shape {
            return Ok(entry);
        }
        Err(CheckpointError::Shape {
            file: entry.file.0.clone(),
            name: name.to_owned(),
            found: entry.shape.clone(),
            expected: shape.to_vec(),
        })
    }

    fn missing(&self, name: &str) -> CheckpointError {
        let mut similar: Vec<(f64, &str)> =
            self.names().map(|known| (strsim::normalized_levenshtein(name, known), known)).collect();
        similar.sort_by(|a, b| b.0.total_cmp(&a.0));
        let nearest = similar.iter().take(3).filter(|(score, _)| *score > 0.5).map(|(_, known)| (*known).to_owned());
        CheckpointError::MissingTensor { file: self.origin.clone(), name: name.to_owned(), nearest: nearest.collect() }
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("origin", &self.origin).field("tensors", &self.entries.len()).finish()
    }
}
