//! Weights as `torch.save` writes them: a zip archive with a pickled state dict and the bytes of each storage.
//!
//! A tensor is a view of a storage (`torch._utils._rebuild_tensor_v2`: storage, offset, sizes, strides), so two tensors
//! may share one, and a tensor's numbers may lie in any order.

mod archive;
mod pickle;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::{Entry, Part, Stored, numbers};
use crate::CheckpointError;
use crate::mmap::MappedFile;
use archive::Archive;
use pickle::{Id, Value, Values};

/// How often the bytes of a file may be counted as tensors: tied weights share them, and more than a few do not.
const MOST_SHARED: usize = 4;

/// A view of a storage.
struct Strided {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Strided {
    fn whole(&self) -> Part {
        Part::strided(self.shape.iter().copied().zip(self.strides.iter().copied()).collect())
    }

    /// Number of elements, and how many elements of the storage they span; nothing where that cannot be.
    fn extent(&self) -> Option<(usize, usize)> {
        let whole = self.whole();
        Some((whole.elements()?, whole.extent()?))
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }
}

impl Stored for Strided {
    fn read(&self, bytes: &[u8], part: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let whole = self.whole();
        let part = if self.has_parts() { part } else { &whole };
        numbers::read_stored(self.dtype, bytes, part, dtype, device)
    }

    fn has_parts(&self) -> bool {
        self.is_contiguous()
    }
}

/// Adds the tensors of one file.
pub(super) fn read_header(path: PathBuf, entries: &mut BTreeMap<String, Entry>) -> Result<(), CheckpointError> {
    let map = MappedFile::open(&path)?;
    let archive = Archive::read(&path, &map)?;
    let broken = |detail: String| CheckpointError::malformed(&path, detail);
    if archive.find("byteorder").is_some_and(|place| map[place] != *b"little") {
        let what = "a byte order other than little-endian".to_owned();
        return Err(CheckpointError::Unsupported { file: path, what, known: Vec::new() });
    }
    let pickle = archive.find("data.pkl").unwrap_or_default();
    let values = Values::read(&map[pickle]).map_err(broken)?;
    let Value::Dict(items) = values.root() else {
        return Err(broken("its pickle is not about a state dict, names with tensors".to_owned()));
    };
    let mut tensors = Vec::new();
    for &(name, value) in items {
        if let (Some(name), Some(view)) = (values.text(name), view(&values, value)) {
            let wrong = |what: String| broken(format!("tensor `{name}` {what}"));
            tensors.push((name.to_owned(), locate(&archive, &values, view).map_err(wrong)?));
        }
    }
    let bytes = tensors.iter().map(|(_, (_, place))| place.len()).fold(0, usize::saturating_add);
    if tensors.is_empty() || bytes > map.len().saturating_mul(MOST_SHARED) {
        return Err(broken(format!("it has {} tensors of {bytes} bytes in {} bytes", tensors.len(), map.len())));
    }
    let file = Arc::new((path.clone(), map));
    for (name, (stored, bytes)) in tensors {
        let entry =
            Entry { file: file.clone(), bytes: vec![bytes], shape: stored.shape.clone(), stored: Box::new(stored) };
        super::insert(entries, name, entry)?;
    }
    Ok(())
}

/// The arguments of the call that makes a tensor, or of the one inside of the call that makes a parameter of it.
fn view<'v>(values: &'v Values<'_>, id: Id) -> Option<&'v [Id]> {
    match values.call(id)? {
        ("torch._utils", "_rebuild_parameter", args) => match values.call(*args.first()?)? {
            ("torch._utils", "_rebuild_tensor_v2", args) => Some(args),
            _ => None,
        },
        ("torch._utils", "_rebuild_tensor_v2", args) => Some(args),
        _ => None,
    }
}

/// Finds a tensor's bytes in its storage, and checks that they are there.
fn locate(archive: &Archive, values: &Values<'_>, args: &[Id]) -> Result<(Strided, Range<usize>), String> {
    let unread = || "is described in a way that cannot be".to_owned();
    let &[storage, offset, shape, strides, ..] = args else { return Err(unread()) };
    let sizes = |id| values.tuple(id)?.iter().map(|&size| values.size(size)).collect::<Option<Vec<usize>>>();
    let Value::Persistent(storage) = values.at(storage) else { return Err(unread()) };
    let Some(&[_, class, key, _, _]) = values.tuple(*storage) else { return Err(unread()) };
    let Value::Global(_, class) = values.at(class) else { return Err(unread()) };
    let dtype = dtype(class).ok_or_else(|| format!("is stored as {class}, which is not supported"))?;
    let (Some(key), Some(offset)) = (values.text(key), values.size(offset)) else { return Err(unread()) };
    let (Some(shape), Some(strides)) = (sizes(shape), sizes(strides)) else { return Err(unread()) };
    if shape.len() != strides.len() || shape.len() > 8 {
        return Err(unread());
    }
    let place =
        archive.find(&format!("data/{key}")).ok_or_else(|| format!("needs `data/{key}`, which is not there"))?;
    let stored = Strided { dtype, shape, strides };
    let width = dtype.bitsize() / 8;
    let held = place.len() / width;
    let end = |span: usize| offset.checked_add(span).filter(|&end| end <= held);
    match stored.extent().and_then(|(elements, span)| Some((elements, span, end(span)?))) {
        Some((elements, span, end)) if elements <= span => {
            Ok((stored, place.start + offset * width..place.start + end * width))
        }
        _ => {
            let Strided { shape, strides, .. } = stored;
            let view = format!("of shape {shape:?} and strides {strides:?} at element {offset}");
            Err(format!("{view} does not lie in its storage of {held}: the file is cut off or damaged"))
        }
    }
}

/// The type of a storage's numbers.
fn dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "ByteStorage" | "BoolStorage" => Dtype::U8,
        "IntStorage" => Dtype::I32,
        "LongStorage" => Dtype::I64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_in_any_order_are_followed() {
        let bytes: Vec<u8> = (0..12).collect();
        let read = |shape: &[usize], strides: &[usize]| {
            let view = Strided { dtype: Dtype::U8, shape: shape.to_vec(), strides: strides.to_vec() };
            let span = view.extent().unwrap().1;
            let read = view.read(&bytes[..span], &Part::of(shape), DType::F32, &Device::Cpu).unwrap();
            assert_eq!(read.dims(), shape);
            read.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(read(&[2, 3], &[3, 1]), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(read(&[3, 2], &[1, 3]), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(read(&[2, 2, 2], &[6, 1, 4]), [0., 4., 1., 5., 6., 10., 7., 11.]);
        assert!(read(&[0, 2], &[2, 1]).is_empty());
        assert_eq!(read(&[], &[]), [0.]);
    }

    #[test]
    fn extents_that_overflow_are_nothing() {
        let view = |shape: &[usize], strides: &[usize]| {
            Strided { dtype: Dtype::F32, shape: shape.to_vec(), strides: strides.to_vec() }.extent()
        };
        assert_eq!(view(&[usize::MAX, 2], &[1, 1]), None);
        assert_eq!(view(&[3], &[usize::MAX]), None);
        assert_eq!(view(&[2, 3], &[3, 1]), Some((6, 6)));
    }
}
