//! Tensors of a safetensors file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use super::{Entry, Part, Stored, numbers};
use crate::CheckpointError;
use crate::mmap::MappedFile;

/// A tensor stored as plain numbers.
pub(super) struct Plain {
    pub(super) dtype: Dtype,
}

impl Stored for Plain {
    fn read(&self, bytes: &[u8], part: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        numbers::read_stored(self.dtype, bytes, part, dtype, device)
    }

    fn dtype(&self) -> Option<Dtype> {
        Some(self.dtype)
    }
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
pub(super) fn read_header(path: PathBuf, entries: &mut BTreeMap<String, Entry>) -> Result<(), CheckpointError> {
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
        let stored = Box::new(Plain { dtype: info.dtype });
        let entry = Entry { file: file.clone(), bytes: vec![bytes], shape: info.shape.clone(), stored };
        super::insert(entries, name, entry)?;
    }
    Ok(())
}
