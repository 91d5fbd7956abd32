//! 4-bit integers with a scale and an offset for each 32 of a row, which are 6-bit numbers themselves: what GGUF calls Q4_K.

use bytemuck::{Pod, Zeroable};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor};
use half::f16;

use super::half_precision::single;
use super::{Lanes, PANEL};
use crate::prefetch::ahead;

/// Columns with a common scale.
pub(super) const RUN: usize = 32;
/// Of these in a superblock.
pub(super) const RUNS: usize = 8;
/// Bytes of one row's superblock in GGUF: two 16-bit scales, 12 bytes of 6-bit scales and offsets, 128 of numbers.
const STORED: usize = 144;

/// 256 columns of a panel.
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Super {
    /// Of the scales, and of the offsets, of each row.
    scale: [f16; PANEL],
    offset: [f16; PANEL],
    scales: [[u8; PANEL]; RUNS],
    offsets: [[u8; PANEL]; RUNS],
    /// Two rows in a byte: `i`, and `i + 16` in the upper half.
    numbers: [[u8; PANEL / 2]; Super::COLUMNS],
}

impl Super {
    pub(super) const COLUMNS: usize = RUN * RUNS;

    /// Takes one row's superblock in.
    fn take(&mut self, lane: usize, stored: &[u8; STORED]) {
        let half = |at: usize| f16::from_le_bytes([stored[at], stored[at + 1]]);
        (self.scale[lane], self.offset[lane]) = (half(0), half(2));
        let packed = &stored[4..16];
        for run in 0..RUNS {
            let (scale, offset) = if run < 4 {
                (packed[run] & 63, packed[run + 4] & 63)
            } else {
                let (low, high) = (packed[run + 4], (packed[run - 4] >> 6, packed[run] >> 6));
                (low & 15 | high.0 << 4, low >> 4 | high.1 << 4)
            };
            (self.scales[run][lane], self.offsets[run][lane]) = (scale, offset);
            // two runs lie in 32 bytes, the first in the lower halves
            let bytes = &stored[16 + run / 2 * RUN..][..RUN];
            for (number, byte) in self.numbers[run * RUN..].iter_mut().zip(bytes) {
                let nibble = byte >> (4 * (run % 2)) & 15;
                number[lane % 16] |= nibble << (4 * (lane / 16));
            }
        }
    }

    /// As many columns of a run as there is room for, as what they stand for.
    #[inline(always)]
    pub(super) fn widen(&self, run: usize, to: &mut [Lanes]) {
        let mut scales = [0.0; PANEL];
        let mut offsets = [0.0; PANEL];
        for lane in 0..PANEL {
            scales[lane] = single(self.scale[lane]) * f32::from(self.scales[run][lane]);
            offsets[lane] = single(self.offset[lane]) * f32::from(self.offsets[run][lane]);
        }
        let (runs, _) = self.numbers.as_chunks::<RUN>();
        ahead(&runs[run], 4);
        for (to, numbers) in to.iter_mut().zip(&runs[run]) {
            let (low, high) = to.split_at_mut(PANEL / 2);
            for lane in 0..PANEL / 2 {
                low[lane] = scales[lane] * f32::from(numbers[lane] & 15) - offsets[lane];
                high[lane] = scales[lane + 16] * f32::from(numbers[lane] >> 4) - offsets[lane + 16];
            }
        }
    }
}

/// Quantises up to 32 rows, one after the other, with candle's search for the best scales.
///
/// # Errors
/// candle's.
pub(super) fn quantize(rows: &[f32], columns: usize, panel: &mut [Super]) -> Result<()> {
    let padded = columns.next_multiple_of(Super::COLUMNS);
    for (lane, row) in rows.chunks_exact(columns).enumerate() {
        let mut whole = row.to_vec();
        whole.resize(padded, 0.0);
        let row = Tensor::from_vec(whole, (1, padded), &Device::Cpu)?;
        let stored = QTensor::quantize(&row, GgmlDType::Q4K)?;
        let stored = stored.data()?;
        let (blocks, _) = stored.as_chunks::<STORED>();
        panel.iter_mut().zip(blocks).for_each(|(panel, block)| panel.take(lane, block));
    }
    Ok(())
}
