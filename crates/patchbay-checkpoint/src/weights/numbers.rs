//! Stored numbers turned into those of a tensor, straight from the file and on all cores.
//!
//! Nothing is held in between: the only memory taken is the tensor's own.

use std::marker::PhantomData;

use candle_core::{DType, Device, Tensor, WithDType};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use super::float8::{self, Unscaled};
use super::part::Part;

/// Numbers that are worth a job of their own.
const JOB: usize = 1 << 16;

/// Numbers as they are stored, one after the other.
pub(super) trait Source: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Those from `start` on, as many as `out` takes. They are there.
    fn run<T: Target>(&self, start: usize, out: &mut [T]);

    /// One of them. It is there.
    fn at<T: Target>(&self, index: usize) -> T;
}

/// Numbers as a tensor has them.
pub(super) trait Target: WithDType + Send {
    /// Rounded to the nearest.
    fn from_f32(value: f32) -> Self;
    /// Rounded to the nearest.
    fn from_double(value: f64) -> Self;
    /// As many zeros, which the system may have ready.
    fn zeros(count: usize) -> Vec<Self>;
}

macro_rules! targets {
    ($($number:ty, $single:expr, $double:expr, $zeros:expr;)*) => {$(
        impl Target for $number {
            fn from_f32(value: f32) -> Self {
                $single(value)
            }

            fn from_double(value: f64) -> Self {
                $double(value)
            }

            fn zeros(count: usize) -> Vec<Self> {
                $zeros(count)
            }
        }
    )*};
}

targets! {
    f64, f64::from, |value| value, |count| vec![0.0; count];
    f32, |value| value, |value| value as f32, |count| vec![0.0; count];
    bf16, bf16::from_f32, bf16::from_f64, |count| vec![0_u16; count].reinterpret_into();
    f16, f16::from_f32, f16::from_f64, |count| vec![0_u16; count].reinterpret_into();
}

/// A number that is stored as its own little-endian bytes.
pub(super) trait Number: Sync + Sized {
    /// The whole numbers that these bytes are, one by one.
    fn all(bytes: &[u8]) -> impl ExactSizeIterator<Item = Self>;
    /// How many bytes it has.
    const WIDTH: usize;
    /// The same number in a tensor.
    fn to<T: Target>(self) -> T;
}

macro_rules! numbers {
    ($($number:ty, $to:expr;)*) => {$(
        impl Number for $number {
            const WIDTH: usize = size_of::<$number>();

            fn all(bytes: &[u8]) -> impl ExactSizeIterator<Item = Self> {
                bytes.as_chunks().0.iter().map(|bytes| <$number>::from_le_bytes(*bytes))
            }

            fn to<T: Target>(self) -> T {
                $to(self)
            }
        }
    )*};
}

numbers! {
    f32, T::from_f32;
    f16, |value: f16| T::from_f32(value.to_f32());
    bf16, |value: bf16| T::from_f32(value.to_f32());
    f64, T::from_double;
    u8, |value| T::from_f32(f32::from(value));
    i16, |value| T::from_f32(f32::from(value));
    i32, |value| T::from_double(f64::from(value));
    u32, |value| T::from_double(f64::from(value));
    i64, |value| T::from_double(value as f64);
}

/// Numbers of one type, in their bytes.
pub(super) struct Plain<'a, N> {
    bytes: &'a [u8],
    number: PhantomData<N>,
}

impl<'a, N: Number> Plain<'a, N> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, number: PhantomData }
    }
}

impl<N: Number> Source for Plain<'_, N> {
    fn len(&self) -> usize {
        self.bytes.len() / N::WIDTH
    }

    fn run<T: Target>(&self, start: usize, out: &mut [T]) {
        let bytes = &self.bytes[start * N::WIDTH..(start + out.len()) * N::WIDTH];
        out.iter_mut().zip(N::all(bytes)).for_each(|(out, number)| *out = number.to());
    }

    fn at<T: Target>(&self, index: usize) -> T {
        let mut out = [T::from_f32(0.0)];
        self.run(index, &mut out);
        out[0]
    }
}

/// Reads a part of numbers that are stored as `stored`, as a tensor of the type `dtype`.
pub(super) fn read_stored(
    stored: Dtype,
    bytes: &[u8],
    part: &Part,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    if let Some(table) = float8::table(stored) {
        return read(&Unscaled { bytes, table }, part, dtype, device);
    }
    match stored {
        Dtype::F64 => read(&Plain::<f64>::new(bytes), part, dtype, device),
        Dtype::F32 => read(&Plain::<f32>::new(bytes), part, dtype, device),
        Dtype::F16 => read(&Plain::<f16>::new(bytes), part, dtype, device),
        Dtype::BF16 => read(&Plain::<bf16>::new(bytes), part, dtype, device),
        Dtype::U8 | Dtype::BOOL => read(&Plain::<u8>::new(bytes), part, dtype, device),
        Dtype::I16 => read(&Plain::<i16>::new(bytes), part, dtype, device),
        Dtype::I32 => read(&Plain::<i32>::new(bytes), part, dtype, device),
        Dtype::U32 => read(&Plain::<u32>::new(bytes), part, dtype, device),
        Dtype::I64 => read(&Plain::<i64>::new(bytes), part, dtype, device),
        other => candle_core::bail!("numbers stored as {other} are not read"),
    }
}

/// Reads a part of stored numbers as a tensor of the type `dtype`.
pub(super) fn read(source: &impl Source, part: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
    match dtype {
        DType::F32 => tensor::<f32>(source, part, device),
        DType::BF16 => tensor::<bf16>(source, part, device),
        DType::F16 => tensor::<f16>(source, part, device),
        other => tensor::<f64>(source, part, device)?.to_dtype(other),
    }
}

fn tensor<T: Target>(source: &impl Source, part: &Part, device: &Device) -> candle_core::Result<Tensor> {
    let (Some(elements), Some(extent)) = (part.elements(), part.extent()) else {
        candle_core::bail!("{:?} is more than any file has", part.shape());
    };
    if extent > source.len() {
        candle_core::bail!("{:?} needs {extent} stored numbers, there are {}", part.shape(), source.len());
    }
    let mut values = T::zeros(elements);
    gather(source, part, &mut values);
    Tensor::from_vec(values, part.shape(), device)
}

/// Fills `out` with the numbers of a part, all of which are there.
fn gather<T: Target>(source: &impl Source, part: &Part, out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let (size, stride) = part.last();
    let rows = (JOB / size).max(1);
    out.par_chunks_mut(rows * size).enumerate().for_each(|(job, out)| {
        let starts = (0..out.len() / size).map(|row| part.start(job * rows + row));
        if stride == 1 {
            starts.zip(out.chunks_exact_mut(size)).for_each(|(start, out)| source.run(start, out));
            return;
        }
        // Neighbours in the file are mostly neighbouring rows here, so these are filled side by side.
        let starts: Vec<usize> = starts.collect();
        for at in 0..size {
            for (row, start) in starts.iter().enumerate() {
                out[row * size + at] = source.at(start + at * stride);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(count: usize) -> Vec<u8> {
        (0..count).flat_map(|number| (number as f32).to_le_bytes()).collect()
    }

    #[test]
    fn large_parts_are_the_same_in_any_order() {
        let (rows, columns) = (300, 700);
        let bytes = stored(rows * columns);
        let source = Plain::<f32>::new(&bytes);
        let whole = read(&source, &Part::of(&[rows, columns]), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(whole.get(299).unwrap().to_vec1::<f32>().unwrap()[699], 209_999.0);
        let part = Part::of(&[rows, columns]).transposed().rows(7, 2, 3);
        let found = read(&source, &part, DType::F32, &Device::Cpu).unwrap();
        let expected = whole.t().unwrap().contiguous().unwrap().reshape((100, 7, rows)).unwrap().narrow(1, 2, 3);
        let expected = expected.unwrap().contiguous().unwrap().reshape((300, rows)).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let bytes = stored(6);
        let source = Plain::<f32>::new(&bytes);
        let error = |part| read(&source, &part, DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert!(error(Part::of(&[7])).contains("needs 7 stored numbers, there are 6"));
        assert!(error(Part::of(&[2, 3]).index(2)).contains("needs 9"));
        assert!(error(Part::of(&[usize::MAX, 2])).contains("more than any file has"));
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_ties_to_even() {
        let bytes: Vec<u8> = [1.003_906_25_f64, 1.011_718_75, -1.0e-9].iter().flat_map(|n| n.to_le_bytes()).collect();
        let source = Plain::<f64>::new(&bytes);
        let read = |dtype| read(&source, &Part::of(&[3]), dtype, &Device::Cpu).unwrap();
        let halves: Vec<f32> = read(DType::BF16).to_vec1::<bf16>().unwrap().iter().map(|n| n.to_f32()).collect();
        assert_eq!(halves, [1.0, 1.015_625, bf16::from_f32(-1.0e-9).to_f32()]);
        assert_eq!(read(DType::F16).to_vec1::<f16>().unwrap()[..2], [1.003_906_25, 1.011_718_75].map(f16::from_f64));
        assert_eq!(read(DType::F64).to_vec1::<f64>().unwrap(), [1.003_906_25, 1.011_718_75, -1.0e-9]);
    }
}
