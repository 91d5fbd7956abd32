//! The zip archive that `torch.save` writes: a pickle, and each storage's bytes as they are in memory.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use crate::CheckpointError;

/// Where in the file each of an archive's entries lies.
pub(super) struct Archive {
    /// The folder inside that everything is in, with its slash.
    folder: String,
    entries: HashMap<String, Range<usize>>,
}

impl Archive {
    /// Reads the directory. Entries are stored as they are, each in bytes of its own inside of the file: what is packed
    /// could grow without end when it is unpacked, and `torch.save` packs nothing.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let broken = |detail: String| CheckpointError::malformed(path, detail);
        if !bytes.starts_with(b"PK") {
            let what =
                "a file that is no zip archive (PyTorch's format before version 1.6, or something else)".to_owned();
            return Err(CheckpointError::Unsupported { file: path.to_path_buf(), what, known: Vec::new() });
        }
        let damaged = |error| broken(format!("this is not a whole zip archive ({error}). Download it again"));
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
        let mut entries = HashMap::new();
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            let (size, stored) = (entry.size(), entry.compressed_size());
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() || size != stored {
                return Err(broken(format!(
                    "`{name}` in it is packed or encrypted; PyTorch stores everything as it is"
                )));
            }
            let place = entry.data_start().and_then(|start| {
                let range = usize::try_from(start).ok()?..usize::try_from(start.checked_add(size)?).ok()?;
                bytes.get(range.clone()).map(|_| range)
            });
            let Some(place) = place else {
                let length = bytes.len();
                return Err(broken(format!("`{name}` in it claims {size} bytes, which the file of {length} lacks")));
            };
            if entries.insert(name.clone(), place).is_some() {
                return Err(broken(format!("`{name}` is in it twice")));
            }
        }
        refuse_overlaps(path, &entries)?;
        let mut pickles = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let folder = match (pickles.next(), pickles.next()) {
            (Some(folder), None) => folder.to_owned(),
            _ => return Err(broken("an archive of PyTorch has one data.pkl".to_owned())),
        };
        Ok(Self { folder, entries })
    }

    /// The place of an entry of the archive's folder.
    pub(super) fn find(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(&format!("{}{name}", self.folder)).cloned()
    }
}

fn refuse_overlaps(path: &Path, entries: &HashMap<String, Range<usize>>) -> Result<(), CheckpointError> {
    let mut places: Vec<_> = entries.iter().filter(|(_, place)| !place.is_empty()).collect();
    places.sort_by_key(|(_, place)| place.start);
    match places.windows(2).find(|pair| pair[1].1.start < pair[0].1.end) {
        Some(pair) => {
            Err(CheckpointError::malformed(path, format!("`{}` and `{}` in it overlap", pair[0].0, pair[1].0)))
        }
        None => Ok(()),
    }
}
