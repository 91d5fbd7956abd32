//! Formats of a tensor's numbers: candle's, and MXFP4, in which gpt-oss is published.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

use crate::mxfp4;

/// Numbers of one MXFP4 block in GGUF.
const MXFP4_NUMBERS: usize = 32;
/// Its bytes: a power of two, then 16 pairs of 4-bit floats.
const MXFP4_BYTES: usize = 17;

/// How numbers are stored, block by block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockFormat {
    /// As candle dequantises them.
    Ggml(GgmlDType),
    /// The power of two of 32 numbers, then the lower halves of 16 bytes and after them the upper ones.
    Mxfp4,
}

/// What is read: ggml's number, the format, ggml's name.
const TYPES: [(u32, BlockFormat, &str); 15] = [
    (0, BlockFormat::Ggml(GgmlDType::F32), "F32"),
    (1, BlockFormat::Ggml(GgmlDType::F16), "F16"),
    (30, BlockFormat::Ggml(GgmlDType::BF16), "BF16"),
    (2, BlockFormat::Ggml(GgmlDType::Q4_0), "Q4_0"),
    (3, BlockFormat::Ggml(GgmlDType::Q4_1), "Q4_1"),
    (6, BlockFormat::Ggml(GgmlDType::Q5_0), "Q5_0"),
    (7, BlockFormat::Ggml(GgmlDType::Q5_1), "Q5_1"),
    (8, BlockFormat::Ggml(GgmlDType::Q8_0), "Q8_0"),
    (10, BlockFormat::Ggml(GgmlDType::Q2K), "Q2_K"),
    (11, BlockFormat::Ggml(GgmlDType::Q3K), "Q3_K"),
    (12, BlockFormat::Ggml(GgmlDType::Q4K), "Q4_K"),
    (13, BlockFormat::Ggml(GgmlDType::Q5K), "Q5_K"),
    (14, BlockFormat::Ggml(GgmlDType::Q6K), "Q6_K"),
    (15, BlockFormat::Ggml(GgmlDType::Q8K), "Q8_K"),
    (39, BlockFormat::Mxfp4, "MXFP4"),
];

impl BlockFormat {
    /// Numbers as they are.
    pub(crate) const F32: Self = Self::Ggml(GgmlDType::F32);

    /// The format of ggml's number.
    pub(super) fn of_type(number: u32) -> Option<Self> {
        TYPES.iter().find(|(known, _, _)| *known == number).map(|(_, format, _)| *format)
    }

    /// ggml's names of all formats.
    pub(super) fn names() -> Vec<String> {
        TYPES.iter().map(|(_, _, name)| (*name).to_owned()).collect()
    }

    /// Numbers of a block.
    pub(crate) fn block_size(self) -> usize {
        match self {
            Self::Ggml(dtype) => dtype.block_size(),
            Self::Mxfp4 => MXFP4_NUMBERS,
        }
    }

    /// Bytes of a block.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Ggml(dtype) => dtype.type_size(),
            Self::Mxfp4 => MXFP4_BYTES,
        }
    }

    /// The numbers as float32, in this shape.
    ///
    /// # Errors
    /// Where the bytes are not those of this shape.
    pub(crate) fn numbers(self, bytes: &[u8], shape: &[usize]) -> candle_core::Result<Tensor> {
        match self {
            Self::Ggml(dtype) => {
                let mut words = Vec::new();
                let storage = QStorage::from_data(Cow::Borrowed(aligned(bytes, &mut words)), &Device::Cpu, dtype)?;
                QTensor::new(storage, shape)?.dequantize(&Device::Cpu)
            }
            Self::Mxfp4 => {
                let mut numbers = Vec::with_capacity(bytes.len() / MXFP4_BYTES * MXFP4_NUMBERS);
                for [power, pairs @ ..] in bytes.as_chunks::<MXFP4_BYTES>().0 {
                    let halves = pairs.iter().map(|pair| pair & 0xF).chain(pairs.iter().map(|pair| pair >> 4));
                    numbers.extend(halves.map(|half| mxfp4::number(half, *power)));
                }
                Tensor::from_vec(numbers, shape, &Device::Cpu)
            }
        }
    }
}

/// The bytes, copied to where any number may begin if they lie where none may, as lists of the metadata do.
fn aligned<'a>(bytes: &'a [u8], words: &'a mut Vec<u64>) -> &'a [u8] {
    if bytes.as_ptr().align_offset(align_of::<u64>()) == 0 {
        return bytes;
    }
    words.resize(bytes.len().div_ceil(size_of::<u64>()), 0);
    let copy = &mut bytemuck::cast_slice_mut(words)[..bytes.len()];
    copy.copy_from_slice(bytes);
    copy
}
