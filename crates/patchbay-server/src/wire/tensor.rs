//! The elements of a tensor in an answer, read where they lie.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, Storage, Tensor};
use patchbay_graph::{DType, Shape};

use super::block::runs;
use super::number::Number;
use super::spool::{Gathered, Spool};
use crate::Failure;

/// True lengths of rows, by axis.
pub type Lengths = BTreeMap<usize, Vec<usize>>;

/// The lengths of a shape's ragged axes, if it has any.
pub fn lengths(shape: &Shape) -> Option<Lengths> {
    shape.ragged.as_ref().map(|ragged| ragged.axes.iter().map(|(axis, lengths)| (*axis, lengths.to_vec())).collect())
}

/// A tensor ready to be written, in any of the forms. Its elements are read where they lie, piece by piece.
#[derive(Debug)]
pub struct WireTensor {
    dtype: DType,
    dims: Vec<usize>,
    elements: Elements,
    lengths: Option<Lengths>,
    /// The piece that was read last, for those who read number by number.
    piece: Mutex<Piece>,
}

/// Where the elements are, in row-major order.
#[derive(Debug)]
enum Elements {
    /// In a tensor of one axis, as numbers.
    Tensor(Tensor),
    /// In a spool, as little-endian bytes.
    Spooled(Mutex<Gathered>),
}

/// Some bytes of the elements.
#[derive(Debug, Default)]
struct Piece {
    start: usize,
    bytes: Vec<u8>,
}

impl WireTensor {
    /// Takes the elements of a tensor; booleans are u8 there. Floats are written as `convert`, if given.
    ///
    /// # Errors
    /// When the tensor cannot be read, which is a fault of the server.
    pub fn new(
        tensor: &Tensor,
        dtype: DType,
        lengths: Option<Lengths>,
        convert: Option<DType>,
    ) -> candle_core::Result<Self> {
        let elements = Elements::Tensor(tensor.flatten_all()?);
        Ok(Self::of(elements, converted(dtype, convert), tensor.dims().to_vec(), lengths))
    }

    /// A tensor of the elements that were gathered, which are of the type `dtype`.
    pub fn spooled(spool: Spool, dtype: DType, dims: Vec<usize>, lengths: Option<Lengths>) -> Self {
        Self::of(Elements::Spooled(Mutex::new(spool.gathered())), dtype, dims, lengths)
    }

    fn of(elements: Elements, dtype: DType, dims: Vec<usize>, lengths: Option<Lengths>) -> Self {
        Self { dtype, dims, elements, lengths, piece: Mutex::default() }
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the axes, padding included.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// True lengths of rows, where they differ.
    pub fn lengths(&self) -> Option<&Lengths> {
        self.lengths.as_ref()
    }

    /// The same with its elements out of memory, as far as they are many.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn at_rest(self) -> io::Result<Self> {
        if matches!(self.elements, Elements::Spooled(_)) {
            return Ok(self);
        }
        let mut spool = Spool::new();
        self.pieces(|piece| spool.append(piece))?;
        Ok(Self::spooled(spool, self.dtype, self.dims, self.lengths))
    }

    /// How many bytes the elements are.
    pub fn byte_len(&self) -> usize {
        self.dims.iter().product::<usize>() * self.dtype.size()
    }

    /// Writes the little-endian bytes.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.pieces(|piece| out.write_all(piece))
    }

    /// Hands over the bytes in pieces, all but the last of which have a multiple of 24 bytes.
    pub(super) fn pieces(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut piece = vec![0; PIECE.min(self.byte_len())];
        for start in (0..self.byte_len()).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(self.byte_len() - start)];
            self.read_at(start, piece)?;
            take(piece)?;
        }
        Ok(())
    }

    /// Puts its elements into a spool of the sizes `whole`, in which they begin `at` these places.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn gather_into(&self, spool: &mut Spool, whole: &[usize], at: &[usize]) -> io::Result<()> {
        let (len, starts) = runs(&self.dims, whole, at);
        let [len, size] = [len * self.dtype.size(), self.dtype.size()];
        let mut piece = vec![0; PIECE.min(len)];
        for [from, to] in starts {
            for start in (0..len).step_by(PIECE) {
                let piece = &mut piece[..PIECE.min(len - start)];
                self.read_at(from * size + start, piece)?;
                spool.write_at((to * size + start) as u64, piece)?;
            }
        }
        Ok(())
    }

    /// Reads the bytes from `start` on, which is where an element begins.
    fn read_at(&self, start: usize, into: &mut [u8]) -> io::Result<()> {
        match &self.elements {
            Elements::Tensor(flat) => read_elements(flat, self.dtype, start / self.dtype.size(), into),
            Elements::Spooled(gathered) => {
                gathered.lock().unwrap_or_else(PoisonError::into_inner).read_at(start as u64, into)
            }
        }
    }

    /// The bytes of one element, in the first of eight.
    fn element(&self, i: usize) -> io::Result<[u8; 8]> {
        let (size, mut element) = (self.dtype.size(), [0; 8]);
        let mut piece = self.piece.lock().unwrap_or_else(PoisonError::into_inner);
        let at = i * size;
        if !(piece.start..piece.start + piece.bytes.len()).contains(&at) {
            let start = at - at % PIECE;
            let mut bytes = std::mem::take(&mut piece.bytes);
            bytes.resize(PIECE.min(self.byte_len().saturating_sub(start)), 0);
            self.read_at(start, &mut bytes)?;
            *piece = Piece { start, bytes };
        }
        let found = piece.bytes.get(at - piece.start..at - piece.start + size);
        element[..size].copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(element)
    }

    /// Its elements as floats; of an answer to be drawn, which is not large.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn floats(&self) -> io::Result<Vec<f64>> {
        let float = |i| match self.number(i) {
            Number::Bool(x) => Ok(f64::from(u8::from(x))),
            Number::Int(x) => Ok(x as f64),
            Number::F32(x) => Ok(x.into()),
            Number::F64(x) => Ok(x),
            Number::Lost(error) => Err(error),
        };
        (0..self.dims.iter().product()).map(float).collect()
    }

    pub(super) fn number(&self, i: usize) -> Number {
        let bytes = match self.element(i) {
            Ok(bytes) => bytes,
            Err(error) => return Number::Lost(error),
        };
        let [b0, b1, b2, b3, ..] = bytes;
        match self.dtype {
            DType::Bool => Number::Bool(b0 != 0),
            DType::U8 => Number::Int(b0.into()),
            DType::U32 => Number::Int(u32::from_le_bytes([b0, b1, b2, b3]).into()),
            DType::I64 => Number::Int(i64::from_le_bytes(bytes)),
            DType::F16 => Number::F32(half::f16::from_le_bytes([b0, b1]).into()),
            DType::Bf16 => Number::F32(half::bf16::from_le_bytes([b0, b1]).into()),
            DType::F32 => Number::F32(f32::from_le_bytes([b0, b1, b2, b3])),
            DType::F64 => Number::F64(f64::from_le_bytes(bytes)),
        }
    }
}

/// How many bytes are read at once: a multiple of an element's size, and of what base64 takes together.
const PIECE: usize = 24 << 11;

/// Reads elements of a flat tensor from number `start` on, as many as there is room for, as little-endian bytes of a type.
fn read_elements(flat: &Tensor, dtype: DType, start: usize, into: &mut [u8]) -> io::Result<()> {
    if flat.dtype() != storage(dtype) {
        let part = flat.narrow(0, start, into.len() / dtype.size()).and_then(|part| part.to_dtype(storage(dtype)));
        return read_elements(&part.map_err(io::Error::other)?, dtype, 0, into);
    }
    let (held, layout) = flat.storage_and_layout();
    let (Storage::Cpu(held), Some((begin, end))) = (&*held, layout.contiguous_offsets()) else {
        return Err(io::Error::other("a result is not on the processor, or not in one piece"));
    };
    let range = begin + start..end;
    match held {
        CpuStorage::U8(all) => little(all.get(range), into, |x| [x]),
        CpuStorage::U32(all) => little(all.get(range), into, u32::to_le_bytes),
        CpuStorage::I64(all) => little(all.get(range), into, i64::to_le_bytes),
        CpuStorage::F16(all) => little(all.get(range), into, half::f16::to_le_bytes),
        CpuStorage::BF16(all) => little(all.get(range), into, half::bf16::to_le_bytes),
        CpuStorage::F32(all) => little(all.get(range), into, f32::to_le_bytes),
        CpuStorage::F64(all) => little(all.get(range), into, f64::to_le_bytes),
        _ => Err(io::Error::other(format!("a result is of type {:?}", flat.dtype()))),
    }
}

/// Fills the room with the bytes of numbers; there are as many as it takes.
fn little<T: Copy, const N: usize>(
    numbers: Option<&[T]>,
    into: &mut [u8],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let numbers = numbers.filter(|numbers| numbers.len() * N >= into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    for (place, number) in into.chunks_exact_mut(N).zip(numbers) {
        place.copy_from_slice(&bytes(*number));
    }
    Ok(())
}

/// The type that a value is written in.
pub fn converted(dtype: DType, convert: Option<DType>) -> DType {
    convert.filter(|_| dtype.is_float()).unwrap_or(dtype)
}

/// The elements of a tensor as little-endian bytes of a type.
///
/// # Errors
/// When the tensor cannot be read, which is a fault of the server.
pub fn bytes_of(tensor: &Tensor, dtype: DType) -> candle_core::Result<Vec<u8>> {
    let mut bytes = vec![0; tensor.elem_count() * dtype.size()];
    read_elements(&tensor.flatten_all()?, dtype, 0, &mut bytes)?;
    Ok(bytes)
}

/// The type in which the executor holds a type of the protocol.
pub fn storage(dtype: DType) -> candle_core::DType {
    match dtype {
        DType::Bool | DType::U8 => candle_core::DType::U8,
        DType::U32 => candle_core::DType::U32,
        DType::I64 => candle_core::DType::I64,
        DType::F16 => candle_core::DType::F16,
        DType::Bf16 => candle_core::DType::BF16,
        DType::F32 => candle_core::DType::F32,
        DType::F64 => candle_core::DType::F64,
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use candle_core::Device;
    use serde_json::json;

    use super::super::tensor_body::{Form, TensorBody};
    use super::*;

    fn bytes(tensor: &WireTensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        tensor.write_to(&mut bytes).unwrap();
        bytes
    }

    fn wire(tensor: &Tensor, dtype: DType, convert: Option<DType>) -> WireTensor {
        WireTensor::new(tensor, dtype, None, convert).unwrap()
    }

    fn body(tensor: WireTensor, form: Form) -> serde_json::Value {
        serde_json::to_value(TensorBody { tensor, form }).unwrap()
    }

    #[test]
    fn numbers_that_are_not_finite_are_strings() {
        let data = vec![0.1f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let tensor = Tensor::from_vec(data, (2, 2), &Device::Cpu).unwrap();
        let text =
            serde_json::to_string(&TensorBody { tensor: wire(&tensor, DType::F32, None), form: Form::Lists }).unwrap();
        assert_eq!(text, r#"{"dtype":"f32","shape":[2,2],"data":[[0.1,"NaN"],["Infinity","-Infinity"]]}"#);
    }

    /// Readers take JSON numbers as f64 and narrow them; the bits must survive that.
    #[test]
    fn every_f32_reads_back_as_the_same_bits() {
        let mut state = 1u32;
        let floats: Vec<f32> = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from_bits(state ^ (state >> 15))
            })
            .chain([0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON, 1e-45, 16_777_216.0])
            .filter(|x| x.is_finite())
            .collect();
        let tensor = Tensor::from_slice(&floats, floats.len(), &Device::Cpu).unwrap();
        let text =
            serde_json::to_vec(&TensorBody { tensor: wire(&tensor, DType::F32, None), form: Form::Lists }).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for (written, read) in floats.iter().zip(value["data"].as_array().unwrap()) {
            assert_eq!(written.to_bits(), (read.as_f64().unwrap() as f32).to_bits(), "{written:e} as {read}");
        }
    }

    #[test]
    fn types_convert_and_bytes_follow() {
        let tensor = Tensor::new(&[1.5f32, -0.1], &Device::Cpu).unwrap();
        let half = wire(&tensor, DType::F32, Some(DType::F16));
        assert_eq!(bytes(&half), [0x00, 0x3e, 0x66, 0xae]);
        assert_eq!(body(half, Form::Lists)["data"], json!([1.5, -0.099_975_586_f32]));
        let bf16 = wire(&tensor, DType::F32, Some(DType::Bf16));
        assert_eq!(bytes(&bf16), [0xc0, 0x3f, 0xcd, 0xbd]);
        assert_eq!(body(bf16, Form::Base64)["b64"], json!("wD/NvQ=="));
        let ids = Tensor::new(&[7i64, -1], &Device::Cpu).unwrap();
        assert_eq!(
            body(wire(&ids, DType::I64, Some(DType::F16)), Form::Lists),
            json!({"dtype": "i64", "shape": [2], "data": [7, -1]})
        );
        let flags = Tensor::new(&[1u8, 0], &Device::Cpu).unwrap();
        assert_eq!(body(wire(&flags, DType::Bool, None), Form::Lists)["data"], json!([true, false]));
    }

    #[test]
    fn a_single_number_has_no_list() {
        let tensor = Tensor::new(2.5f64, &Device::Cpu).unwrap();
        assert_eq!(
            body(wire(&tensor, DType::F64, None), Form::Lists),
            json!({"dtype": "f64", "shape": [], "data": 2.5})
        );
    }

    #[test]
    fn parts_of_an_axis_are_put_side_by_side() {
        let whole = Tensor::arange(0f32, 60f32, &Device::Cpu).unwrap().reshape((3, 5, 4)).unwrap();
        for axis in 0..3 {
            let rows = whole.dims()[axis];
            let mut spool = Spool::new();
            for (first, count) in [(2, rows - 2), (0, 1), (1, 1)] {
                let part = whole.narrow(axis, first, count).unwrap();
                let mut at = [0; 3];
                at[axis] = first;
                wire(&part, DType::F32, None).gather_into(&mut spool, whole.dims(), &at).unwrap();
            }
            let gathered = WireTensor::spooled(spool, DType::F32, vec![3, 5, 4], None);
            assert_eq!(bytes(&gathered), bytes(&wire(&whole, DType::F32, None)));
        }
    }

    /// More elements than a piece and than stay in memory, in every form.
    #[test]
    fn gathered_elements_are_written_as_held_ones() {
        let floats: Vec<f32> = (0..1_100_003).map(|i| i as f32 * 0.37 - 9.0).collect();
        let tensor = Tensor::from_slice(&floats, floats.len(), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16] {
            let held = wire(&tensor, DType::F32, Some(dtype));
            let mut spool = Spool::new();
            for part in [0..7, 7..900_000, 900_000..floats.len()] {
                let part = tensor.narrow(0, part.start, part.len()).unwrap();
                spool.append(&bytes_of(&part, dtype).unwrap()).unwrap();
            }
            let spooled = WireTensor::spooled(spool, dtype, vec![floats.len()], None);
            let expected = bytes(&held);
            assert!(expected == bytes(&spooled));
            assert!(expected == bytes(&wire(&tensor, DType::F32, Some(dtype)).at_rest().unwrap()));
            let mut bodies = [held, spooled].map(|tensor| TensorBody { tensor, form: Form::Lists });
            let [held, spooled] = bodies.each_ref().map(|body| serde_json::to_vec(body).unwrap());
            assert!(held == spooled);
            bodies.iter_mut().for_each(|body| body.form = Form::Base64);
            let [held, spooled] = bodies.map(|body| serde_json::to_value(&body).unwrap());
            assert!(held == spooled);
            assert_eq!(held["b64"], json!(STANDARD.encode(expected)));
        }
    }
}
