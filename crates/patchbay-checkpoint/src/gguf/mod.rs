//! GGUF: one file with a model's metadata, tokenizer and quantised weights, as llama.cpp writes it.
//!
//! The format: magic `GGUF`, version, number of tensors, number of metadata entries; the entries; for each tensor its
//! name, sizes (fastest first), type and offset; then, aligned, the data
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). candle has a reader too; this one differs in that it
//! trusts no number in the file: it works on the mapped bytes, so a count or a length is checked against what is left
//! before anything is reserved for it, alignments and sizes are checked before they are divided or multiplied, and
//! every error says at which byte it stands. Block formats and dequantisation are candle's, but for
//! one that it has not got.

mod architectures;
mod blocks;
mod config;
mod cuts;
mod draft;
mod layout;
mod names;
mod reader;
mod rope;
mod tokenizer;
mod vocabulary;

pub(crate) use blocks::BlockFormat;
pub(crate) use config::config;
pub(crate) use layout::{Half, Join, Layout, Part};
pub(crate) use names::{Role, TensorNames};
pub(crate) use tokenizer::tokenizer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::CheckpointError;
use crate::mmap::MappedFile;
use reader::Reader;
pub(crate) use reader::{Number, Value};

/// The header of one GGUF file.
pub(crate) struct GgufFile {
    pub(crate) file: Arc<(PathBuf, MappedFile)>,
    metadata: BTreeMap<String, Value>,
    pub(crate) tensors: Vec<GgufTensor>,
}

/// One tensor as the header describes it.
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    /// Slowest axis first, as Hugging Face counts.
    pub(crate) shape: Vec<usize>,
    pub(crate) format: BlockFormat,
    /// Where its blocks lie. Checked to be inside the file.
    pub(crate) bytes: Range<usize>,
}

/// A tensor's description before the data's start is known.
struct Described {
    name: String,
    shape: Vec<usize>,
    format: BlockFormat,
    offset: u64,
}

impl GgufFile {
    /// Maps a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let map = MappedFile::open(path)?;
        let mut reader = Reader::new(path, &map);
        let (tensor_count, entry_count) = reader.counts()?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entry_count {
            let (key, value) = reader.entry()?;
            metadata.insert(key, value);
        }
        let described = (0..tensor_count).map(|_| describe(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Number(Number::Int(n))) if (8..=1 << 20).contains(n) && n.count_ones() == 1 => *n as u64,
            Some(_) => return Err(reader.wrong("general.alignment is not a power of two from 8 to 2^20")),
        };
        let start = (reader.position() as u64).next_multiple_of(alignment);
        let tensors = described
            .into_iter()
            .map(|tensor| locate(path, map.len(), start, alignment, tensor))
            .collect::<Result<Vec<_>, _>>()?;
        refuse_overlaps(path, &tensors)?;
        Ok(Self { file: Arc::new((path.to_path_buf(), map)), metadata, tensors })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file.0
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// A metadata entry.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A metadata entry that is text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }

    /// A metadata entry that is a whole number of at least 0.
    pub(crate) fn uint(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_uint)
    }

    /// A metadata entry that is true or false.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key) {
            Some(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// The elements of a list of text; nothing where the key is absent or something else.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<String>> {
        match self.get(key) {
            Some(Value::List(list)) => list.texts(&self.file.1),
            _ => None,
        }
    }

    /// The elements of a list of numbers; nothing where the key is absent or something else.
    pub(crate) fn numbers(&self, key: &str) -> Option<Vec<Number>> {
        match self.get(key) {
            Some(Value::List(list)) => list.numbers(&self.file.1),
            _ => None,
        }
    }

    /// Where the elements of a list of 32-bit floats lie; nothing where the key is absent or something else.
    pub(crate) fn singles(&self, key: &str) -> Option<Range<usize>> {
        match self.get(key) {
            Some(Value::List(list)) => list.singles(),
            _ => None,
        }
    }

    /// The elements of a list of true and false; nothing where the key is absent or something else.
    pub(crate) fn flags(&self, key: &str) -> Option<Vec<bool>> {
        match self.get(key) {
            Some(Value::List(list)) => list.flags(&self.file.1),
            _ => None,
        }
    }

    /// An error about a metadata entry.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> CheckpointError {
        CheckpointError::Config {
            file: self.path().to_path_buf(),
            key: key.to_owned(),
            found: self.get(key).map_or_else(|| "absent".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }
}

/// Reads one tensor's description.
fn describe(reader: &mut Reader<'_>) -> Result<Described, CheckpointError> {
    let name = reader.text()?;
    let rank = reader.u32()?;
    if !(1..=4).contains(&rank) {
        return Err(reader.wrong(&format!("tensor `{name}` has {rank} axes, but must have 1 to 4")));
    }
    let mut shape = (0..rank).map(|_| reader.length()).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let kind = reader.u32()?;
    let format = BlockFormat::of_type(kind).ok_or_else(|| CheckpointError::Unsupported {
        file: reader.path().to_path_buf(),
        what: format!("tensor `{name}`'s ggml type {kind}"),
        known: BlockFormat::names(),
    })?;
    Ok(Described { name, shape, format, offset: reader.u64()? })
}

/// Finds a tensor's bytes, and checks that they are in the file.
fn locate(
    path: &Path,
    file_size: usize,
    start: u64,
    alignment: u64,
    tensor: Described,
) -> Result<GgufTensor, CheckpointError> {
    let Described { name, shape, format, offset } = tensor;
    let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let row = shape.last().copied().unwrap_or(0);
    let size = elements
        .filter(|&elements| elements > 0 && row % format.block_size() == 0)
        .and_then(|elements| (elements / format.block_size()).checked_mul(format.bytes()));
    let Some(size) = size else {
        let detail = format!("tensor `{name}` cannot have shape {shape:?} in blocks of {}", format.block_size());
        return Err(CheckpointError::malformed(path, detail));
    };
    let begin = start.checked_add(offset).and_then(|begin| usize::try_from(begin).ok());
    let end = begin.and_then(|begin| begin.checked_add(size));
    match (begin, end) {
        (Some(begin), Some(end)) if end <= file_size && offset.is_multiple_of(alignment) => {
            Ok(GgufTensor { name, shape, format, bytes: begin..end })
        }
        _ => Err(CheckpointError::malformed(
            path,
            format!(
                "tensor `{name}` needs {size} bytes at offset {offset} of the data, which starts at byte {start} of \
                 {file_size}: the file is cut off or damaged. Download it again"
            ),
        )),
    }
}

/// No two tensors may share a name or a byte.
fn refuse_overlaps(path: &Path, tensors: &[GgufTensor]) -> Result<(), CheckpointError> {
    let mut by_place: Vec<&GgufTensor> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| tensor.bytes.start);
    let mut names = BTreeSet::new();
    for (place, tensor) in by_place.iter().enumerate() {
        if !names.insert(&tensor.name) {
            return Err(CheckpointError::malformed(path, format!("tensor `{}` is listed twice", tensor.name)));
        }
        if let Some(next) = by_place.get(place + 1).filter(|next| next.bytes.start < tensor.bytes.end) {
            let detail = format!("tensors `{}` and `{}` overlap", tensor.name, next.name);
            return Err(CheckpointError::malformed(path, detail));
        }
    }
    Ok(())
}
