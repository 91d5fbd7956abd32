//! 8-bit integers with a scale for each 32 of a row: what GGUF calls Q8_0.

use bytemuck::{Pod, Zeroable};
use half::f16;
use pulp::Simd;

use super::half_precision::single;
use super::{Lanes, PANEL};

/// 32 columns of a panel.
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Block {
    /// One for each row.
    scales: [f16; PANEL],
    numbers: [[i8; PANEL]; Block::COLUMNS],
}

impl Block {
    pub(super) const COLUMNS: usize = 32;
    pub(super) const ZERO: Self = Self { scales: [f16::ZERO; PANEL], numbers: [[0; PANEL]; Self::COLUMNS] };

    /// Up to 32 columns. A row's largest number is 127 of its scale.
    pub(super) fn of(columns: &[Lanes]) -> Self {
        let mut block = Self::ZERO;
        for lane in 0..PANEL {
            let largest = columns.iter().fold(0.0_f32, |largest, lanes| largest.max(lanes[lane].abs()));
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            block.scales[lane] = f16::from_f32(scale);
            for (to, lanes) in block.numbers.iter_mut().zip(columns) {
                // no number is more than 127 scales, and what is not a number becomes 0
                to[lane] = (lanes[lane] * inverse).round() as i8;
            }
        }
        block
    }

    /// As many of its columns as there is room for, as what they stand for.
    #[inline(always)]
    pub(super) fn widen<S: Simd>(&self, simd: S, to: &mut [Lanes]) {
        let mut scales = [0.0; PANEL];
        for (scale, stored) in scales.iter_mut().zip(&self.scales) {
            *scale = single(*stored);
        }
        // one long loop becomes vectors wherever it is put, and one of 32 within another does not
        for (to, number) in to.as_flattened_mut().iter_mut().zip(self.numbers.as_flattened()) {
            *to = f32::from(*number);
        }
        let (scales, _) = S::as_simd_f32s(&scales);
        for to in to {
            for (to, scale) in S::as_mut_simd_f32s(to).0.iter_mut().zip(scales) {
                *to = simd.mul_f32s(*to, *scale);
            }
        }
    }
}
