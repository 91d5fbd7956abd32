//! Numbers of eight bits, and the scales that quantised checkpoints keep beside them.
//!
//! Weights alone are dequantised: `number · scale`, each as float32, which is what PyTorch makes of
//! `weight.to(torch.float32) * scale`. What a checkpoint says about activations is not heard.

use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::numbers::{self, Source, Target};
use super::part::Part;
use super::{Entry, Stored};

/// What each byte stands for.
pub(super) type Table = [f32; 256];

/// How eight bits are divided.
struct Layout {
    mantissa: u32,
    bias: i32,
    special: Special,
}

/// Which bytes are no ordinary numbers.
enum Special {
    /// The largest exponent is for infinities and NaN, as in IEEE 754.
    Largest,
    /// All ones but for the sign are NaN.
    Ones,
    /// What would be -0 is NaN.
    NegativeZero,
}

impl Layout {
    fn table(&self) -> Table {
        std::array::from_fn(|byte| self.value(byte as u8))
    }

    fn value(&self, byte: u8) -> f32 {
        let (magnitude, steps) = (i32::from(byte & 0x7F), 1 << self.mantissa);
        let (exponent, fraction) = (magnitude / steps, magnitude % steps);
        let largest = exponent == 0x7F / steps;
        let magnitude = match self.special {
            Special::NegativeZero if byte == 0x80 => f32::NAN,
            Special::Ones if magnitude == 0x7F => f32::NAN,
            Special::Largest if largest && fraction != 0 => f32::NAN,
            Special::Largest if largest => f32::INFINITY,
            _ => {
                // Below the first step of the exponent the numbers go down to 0 evenly.
                let whole = if exponent == 0 { fraction } else { steps + fraction };
                whole as f32 * power(exponent.max(1) - self.bias - self.mantissa as i32)
            }
        };
        if byte & 0x80 == 0 { magnitude } else { -magnitude }
    }
}

/// 2 to a power that float32 has.
fn power(exponent: i32) -> f32 {
    f32::powi(2.0, exponent)
}

static E4M3: LazyLock<Table> = LazyLock::new(|| Layout { mantissa: 3, bias: 7, special: Special::Ones }.table());
static E5M2: LazyLock<Table> = LazyLock::new(|| Layout { mantissa: 2, bias: 15, special: Special::Largest }.table());
static E4M3FNUZ: LazyLock<Table> =
    LazyLock::new(|| Layout { mantissa: 3, bias: 8, special: Special::NegativeZero }.table());
static E5M2FNUZ: LazyLock<Table> =
    LazyLock::new(|| Layout { mantissa: 2, bias: 16, special: Special::NegativeZero }.table());
/// Powers of two, which only scales are.
static E8M0: LazyLock<Table> = LazyLock::new(|| {
    std::array::from_fn(|byte| if byte == 0xFF { f32::NAN } else { 2_f64.powi(byte as i32 - 127) as f32 })
});

/// The table of a type of eight-bit floats.
pub(super) fn table(dtype: Dtype) -> Option<&'static Table> {
    Some(match dtype {
        Dtype::F8_E4M3 => &E4M3,
        Dtype::F8_E5M2 => &E5M2,
        Dtype::F8_E4M3FNUZ => &E4M3FNUZ,
        Dtype::F8_E5M2FNUZ => &E5M2FNUZ,
        Dtype::F8_E8M0 => &E8M0,
        _ => return None,
    })
}

/// Which scale each number of a tensor has: along every axis, runs of numbers share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grid(Vec<Axis>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    /// Of the tensor.
    size: usize,
    /// How many neighbours share a scale.
    run: usize,
    /// How far apart their scales lie.
    stride: usize,
}

impl Grid {
    /// The grid of scales of the shape `scale` for a tensor of the shape `weight`, if they fit.
    ///
    /// A single scale is for the whole tensor. A scale of fewer axes than the tensor has one number, or one for each
    /// entry, along the first ones. One of as many axes has along each one number, as many as the tensor, or one for
    /// each block: the blocks `declared` for the last two axes, of which the last of each axis may be cut short, or
    /// where none are declared blocks that divide the axis evenly, as transformers has it.
    pub(super) fn fit(weight: &[usize], scale: &[usize], declared: Option<[usize; 2]>) -> Option<Self> {
        let single = scale.iter().all(|&size| size == 1) && (scale.len() < weight.len() || declared.is_none());
        if single || weight.is_empty() {
            let run = |&size: &usize| Axis { size, run: size.max(1), stride: 0 };
            return scale.iter().all(|&size| size == 1).then(|| Self(weight.iter().map(run).collect()));
        }
        let blocks = (scale.len() == weight.len()).then_some(declared).flatten();
        let missing = weight.len().checked_sub(scale.len())?;
        let mut axes = Vec::new();
        let mut stride = 1;
        for (axis, &size) in weight.iter().enumerate().rev() {
            let scales = scale.get(axis).copied().unwrap_or(1);
            let block = blocks.and_then(|blocks| blocks.get((axis + 2).checked_sub(weight.len())?).copied());
            let run = match block {
                Some(run) => Some(run).filter(|&run| run > 0 && size.div_ceil(run) == scales),
                None if scales == 1 => Some(size.max(1)),
                None if scales == size => Some(1),
                None if missing == 0 && scales > 0 && size % scales == 0 => Some(size / scales),
                None => None,
            }?;
            axes.push(Axis { size, run: run.max(1), stride: if scales == 1 { 0 } else { stride } });
            stride *= scales;
        }
        axes.reverse();
        Some(Self(axes))
    }

    /// Where a number lies along the last axis, and the place of the scale of its row's first number.
    fn place(&self, index: usize) -> (usize, usize) {
        let Some((last, outer)) = self.0.split_last() else { return (0, 0) };
        let step = |(rest, at): (usize, usize), axis: &Axis| {
            (rest / axis.size, at + rest % axis.size / axis.run * axis.stride)
        };
        (index % last.size, outer.iter().rev().fold((index / last.size, 0), step).1)
    }
}

/// Eight-bit floats, each times its scale.
struct Scaled<'a> {
    bytes: &'a [u8],
    table: &'static Table,
    grid: &'a Grid,
    scales: Vec<f32>,
}

impl Source for Scaled<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn run<T: Target>(&self, start: usize, out: &mut [T]) {
        let last = self.grid.0.last().copied().unwrap_or(Axis { size: 1, run: 1, stride: 0 });
        let mut bytes = &self.bytes[start..start + out.len()];
        let mut out = out;
        let mut at = start;
        while !bytes.is_empty() {
            // Up to the end of the row or of the numbers that share a scale.
            let (column, scale) = self.grid.place(at);
            let shared = (last.run - column % last.run).min(last.size - column).min(bytes.len());
            let scale = self.scales[scale + column / last.run * last.stride];
            let (now, later) = std::mem::take(&mut out).split_at_mut(shared);
            let (bytes_now, bytes_later) = bytes.split_at(shared);
            for (out, byte) in now.iter_mut().zip(bytes_now) {
                *out = T::from_f32(self.table[usize::from(*byte)] * scale);
            }
            (out, bytes, at) = (later, bytes_later, at + shared);
        }
    }

    fn at<T: Target>(&self, index: usize) -> T {
        let mut out = [T::from_f32(0.0)];
        self.run(index, &mut out);
        out[0]
    }
}

/// Eight-bit floats without a scale.
pub(super) struct Unscaled<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) table: &'static Table,
}

impl Source for Unscaled<'_> {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn run<T: Target>(&self, start: usize, out: &mut [T]) {
        let bytes = &self.bytes[start..start + out.len()];
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = T::from_f32(self.table[usize::from(*byte)]);
        }
    }

    fn at<T: Target>(&self, index: usize) -> T {
        T::from_f32(self.table[usize::from(self.bytes[index])])
    }
}

/// A tensor of eight-bit floats with the scales of another.
pub(super) struct WithScales {
    pub(super) table: &'static Table,
    pub(super) grid: Grid,
    pub(super) scales: Entry,
}

impl Stored for WithScales {
    fn read(&self, bytes: &[u8], part: &Part, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let scales = self.scales.read(DType::F32, &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let source = Scaled { bytes, table: self.table, grid: &self.grid, scales };
        numbers::read(&source, part, dtype, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales_of(weight: &[usize], scale: &[usize], declared: Option<[usize; 2]>) -> Option<Vec<usize>> {
        let grid = Grid::fit(weight, scale, declared)?;
        let last = grid.0.last().copied().unwrap_or(Axis { size: 1, run: 1, stride: 0 });
        let place = |index| {
            let (column, scale) = grid.place(index);
            scale + column / last.run * last.stride
        };
        Some((0..weight.iter().product()).map(place).collect())
    }

    #[test]
    fn every_number_finds_its_scale() {
        assert_eq!(scales_of(&[2, 2], &[], None).unwrap(), [0; 4]);
        assert_eq!(scales_of(&[2, 2], &[1], Some([1, 1])).unwrap(), [0; 4]);
        assert_eq!(scales_of(&[2, 2], &[2, 1], None).unwrap(), [0, 0, 1, 1]);
        assert_eq!(scales_of(&[2, 2], &[2], None).unwrap(), [0, 0, 1, 1]);
        assert_eq!(scales_of(&[2, 2], &[1, 2], None).unwrap(), [0, 1, 0, 1]);
        assert_eq!(scales_of(&[3, 3], &[2, 2], Some([2, 2])).unwrap(), [0, 0, 1, 0, 0, 1, 2, 2, 3]);
        assert_eq!(scales_of(&[2, 4], &[1, 2], None).unwrap(), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(scales_of(&[2, 2, 2], &[2], None).unwrap(), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(scales_of(&[2, 2, 2], &[2, 1, 2], None).unwrap(), [0, 1, 0, 1, 2, 3, 2, 3]);
        assert_eq!(scales_of(&[], &[1], None).unwrap(), [0]);
    }

    #[test]
    fn scales_that_do_not_fit_are_refused() {
        for (weight, scale, declared) in [
            (&[4, 4][..], &[3, 1][..], None),
            (&[4, 4], &[3], None),
            (&[4, 4], &[1, 1], Some([2, 2])),
            (&[4, 4], &[4, 4], Some([2, 2])),
            (&[4, 4], &[2, 2], Some([0, 2])),
            (&[4, 4], &[1, 4, 4], None),
            (&[4, 4], &[0], None),
            (&[4, 4], &[0, 0], None),
            (&[], &[2], None),
        ] {
            assert_eq!(Grid::fit(weight, scale, declared), None, "{weight:?} {scale:?} {declared:?}");
        }
    }
}
