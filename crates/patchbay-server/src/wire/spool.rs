//! Elements that wait for their answer outside of memory.
//!
//! The results of a sweep come cell by cell, and no byte of its answer can be sent before the last cell ran: a failure is said
//! with its status. Until then they lie here: the first of them in memory, more of them in a file without a name in the
//! system's folder for temporary files, which is gone when it is dropped.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use tempfile::SpooledTempFile;

/// How much of one spool stays in memory.
const IN_MEMORY: usize = 4 << 20;

/// Bytes being gathered.
pub struct Spool {
    file: SpooledTempFile,
    len: usize,
}

impl Spool {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { file: SpooledTempFile::new(IN_MEMORY), len: 0 }
    }

    /// Adds to the end.
    ///
    /// # Errors
    /// When the file cannot be made or is full.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len();
        self.file.write_all(bytes)
    }

    /// Puts bytes at a place, which may be beyond the end.
    ///
    /// # Errors
    /// When the file cannot be made or is full.
    pub fn write_at(&mut self, start: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(bytes)?;
        self.len = self.len.max(start as usize + bytes.len());
        Ok(())
    }

    /// How many bytes there are.
    pub fn byte_len(&self) -> usize {
        self.len
    }

    /// What was gathered, to be read.
    pub fn gathered(self) -> Gathered {
        Gathered { reader: BufReader::with_capacity(64 << 10, self.file), at: None }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes gathered. Reading them in order touches each once.
#[derive(Debug)]
pub struct Gathered {
    reader: BufReader<SpooledTempFile>,
    /// Where the next byte is read; none before the first.
    at: Option<u64>,
}

impl Gathered {
    /// Fills `into` with the bytes from `start` on.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn read_at(&mut self, start: u64, into: &mut [u8]) -> io::Result<()> {
        if self.at != Some(start) {
            self.reader.seek(SeekFrom::Start(start))?;
        }
        self.at = None;
        self.reader.read_exact(into)?;
        self.at = Some(start + into.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_come_in_any_order() {
        for size in [30, IN_MEMORY + 30] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut spool = Spool::new();
            for start in [20, 0, 10] {
                let end = if start == 20 { size } else { start + 10 };
                spool.write_at(start as u64, &bytes[start..end]).unwrap();
            }
            assert_eq!(spool.byte_len(), size);
            let mut found = vec![0; size];
            spool.gathered().read_at(0, &mut found).unwrap();
            assert!(found == bytes);
        }
    }

    #[test]
    fn bytes_come_back_in_any_order_from_memory_and_from_disk() {
        for size in [10, IN_MEMORY + 10] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut spool = Spool::new();
            bytes.chunks(1 << 16).for_each(|part| spool.append(part).unwrap());
            let mut gathered = spool.gathered();
            for start in [0, 4, 5, size - 4, 1, size - 5] {
                let mut found = [0; 4];
                gathered.read_at(start as u64, &mut found).unwrap();
                assert_eq!(found, bytes[start..start + 4]);
            }
            assert!(gathered.read_at(size as u64 - 3, &mut [0; 4]).is_err());
        }
    }
}
