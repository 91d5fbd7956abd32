//! Files mapped into memory, so that weights are read once, when they are turned into tensors, and never copied before.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use crate::CheckpointError;

/// The bytes of one file.
#[derive(Debug)]
pub(crate) struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps a file for reading.
    #[allow(unsafe_code)]
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(CheckpointError::io(path, "open"))?;
        let is_file = file.metadata().map_err(CheckpointError::io(path, "open"))?.is_file();
        if !is_file {
            return Err(CheckpointError::malformed(path, "this is not a regular file"));
        }
        // SAFETY: the map is read-only and private to this process; what could break it is another process that
        // cuts the file short while a model is being loaded, which every program that maps weights takes as given.
        // Bytes that merely change are harmless: every read of them is bounds-checked, and any bit pattern is a number.
        let map = unsafe { memmap2::Mmap::map(&file) };
        map.map(Self).map_err(CheckpointError::io(path, "map"))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
