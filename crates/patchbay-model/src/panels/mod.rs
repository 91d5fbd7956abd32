//! Matrices as the processor's kernels read them.
//!
//! A panel is 32 neighbouring rows side by side: for each column the 32 numbers of it. A projection reads panels from front to
//! back, and its outputs lie in the lanes of vectors, so that no sum goes across lanes. What takes fewer bits than a float32 is
//! widened a panel at a time, to the numbers it stands for.

mod half_precision;
mod interleave;
mod pages;
mod q4;
mod q8;

use std::ops::Range;

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::half_precision::single;
pub(crate) use self::interleave::interleave;
use self::pages::Pages;
use self::q4::Super;
use self::q8::Block;
use crate::instructions::arch;
use crate::precision::Precision;
use crate::prefetch::ahead;

/// Rows of a panel.
pub(crate) const PANEL: usize = 32;

/// Columns of float32 or half precision that are asked of memory before they are used; two kilobytes, or one, measured best.
pub(crate) const AHEAD: usize = 16;

/// The numbers of a panel's rows at one column.
pub(crate) type Lanes = [f32; PANEL];

/// A matrix `[rows, columns]` in panels; rows that it lacks in the last one are zeros.
#[derive(PartialEq)]
pub struct Panels {
    rows: usize,
    columns: usize,
    numbers: Numbers,
}

/// What the panels hold, one after the other.
#[derive(PartialEq)]
enum Numbers {
    F32(Pages<Lanes>),
    F16(Pages<[f16; PANEL]>),
    Bf16(Pages<[bf16; PANEL]>),
    Q8(Pages<Block>),
    Q4(Pages<Super>),
}

impl Panels {
    /// The panels of a matrix `[rows, columns]` on the processor.
    ///
    /// # Errors
    /// candle's, where the tensor is no matrix.
    pub fn of(matrix: &Tensor, precision: Precision) -> Result<Self> {
        let (rows, columns) = matrix.dims2()?;
        let mut panels = Self::zeros(rows, columns, precision)?;
        panels.fill(0, matrix)?;
        Ok(panels)
    }

    /// A matrix of zeros.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn zeros(rows: usize, columns: usize, precision: Precision) -> Result<Self> {
        let count = rows.div_ceil(PANEL);
        let numbers = match precision {
            Precision::F32 => Numbers::F32(Pages::zeros(count * columns)?),
            Precision::F16 => Numbers::F16(Pages::zeros(count * columns)?),
            Precision::Bf16 => Numbers::Bf16(Pages::zeros(count * columns)?),
            Precision::Q8_0 => Numbers::Q8(Pages::zeros(count * columns.div_ceil(Block::COLUMNS))?),
            Precision::Q4K => Numbers::Q4(Pages::zeros(count * columns.div_ceil(Super::COLUMNS))?),
        };
        Ok(Self { rows, columns, numbers })
    }

    /// Puts `part: [n, columns]` in the place of the rows from `first` on, which has to be a panel's first; n is whole panels, or
    /// all that is left.
    ///
    /// # Errors
    /// Where a shape does not fit.
    pub(crate) fn fill(&mut self, first: usize, part: &Tensor) -> Result<()> {
        let (count, columns) = part.dims2()?;
        let whole = count.is_multiple_of(PANEL) || first + count == self.rows;
        if columns != self.columns || first + count > self.rows || !first.is_multiple_of(PANEL) || !whole {
            bail!("rows {first} to {} do not fit [{}, {}]", first + count, self.rows, self.columns);
        }
        if count == 0 || columns == 0 {
            return Ok(());
        }
        let part = part.to_dtype(candle_core::DType::F32)?.contiguous()?;
        let (storage, layout) = part.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(floats)), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("panels are made on the cpu");
        };
        let rows = floats[start..end].par_chunks(PANEL * columns);
        let panels = first / PANEL..(first + count).div_ceil(PANEL);
        match &mut self.numbers {
            Numbers::F32(all) => {
                each(all, (panels, columns), rows, columns, |panel, lanes| panel.copy_from_slice(lanes));
            }
            Numbers::F16(all) => each(all, (panels, columns), rows, columns, |panel, lanes| {
                panel.as_flattened_mut().convert_from_f32_slice(lanes.as_flattened());
            }),
            Numbers::Bf16(all) => each(all, (panels, columns), rows, columns, |panel, lanes| {
                panel.as_flattened_mut().convert_from_f32_slice(lanes.as_flattened());
            }),
            Numbers::Q8(all) => {
                let blocks = columns.div_ceil(Block::COLUMNS);
                each(all, (panels, blocks), rows, columns, |panel, lanes| {
                    for (block, lanes) in panel.iter_mut().zip(lanes.chunks(Block::COLUMNS)) {
                        *block = Block::of(lanes);
                    }
                });
            }
            Numbers::Q4(all) => {
                let supers = columns.div_ceil(Super::COLUMNS);
                let panels = all[panels.start * supers..panels.end * supers].par_chunks_mut(supers);
                return panels.zip(rows).try_for_each(|(panel, rows)| q4::quantize(rows, columns, panel));
            }
        }
        Ok(())
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// What the numbers are kept as.
    pub fn precision(&self) -> Precision {
        match self.numbers {
            Numbers::F32(_) => Precision::F32,
            Numbers::F16(_) => Precision::F16,
            Numbers::Bf16(_) => Precision::Bf16,
            Numbers::Q8(_) => Precision::Q8_0,
            Numbers::Q4(_) => Precision::Q4K,
        }
    }

    /// How many panels there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// A panel's columns where they are float32 as they are.
    #[inline(always)]
    pub(crate) fn as_they_are(&self, number: usize) -> Option<&[Lanes]> {
        match &self.numbers {
            Numbers::F32(all) => Some(&all[number * self.columns..(number + 1) * self.columns]),
            _ => None,
        }
    }

    /// A panel's columns, widened into `scratch` where they are not float32.
    #[inline(always)]
    pub(crate) fn panel<'a>(&'a self, number: usize, scratch: &'a mut Vec<Lanes>) -> &'a [Lanes] {
        if let Some(panel) = self.as_they_are(number) {
            return panel;
        }
        scratch.resize(self.columns, [0.0; PANEL]);
        self.widened(number, 0..self.columns, scratch);
        scratch
    }

    /// Some columns of a panel, from a multiple of 32 on, as float32.
    pub(crate) fn widened(&self, number: usize, columns: Range<usize>, to: &mut [Lanes]) {
        struct Widen<'a>(&'a Panels, usize, Range<usize>, &'a mut [Lanes]);
        impl WithSimd for Widen<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.0.widen(simd, self.1, self.2, self.3);
            }
        }
        arch().dispatch(Widen(self, number, columns, to));
    }

    /// The same within code for a processor's vectors.
    #[inline(always)]
    pub(crate) fn widen<S: Simd>(&self, simd: S, number: usize, columns: Range<usize>, to: &mut [Lanes]) {
        let start = number * self.columns;
        let range = start + columns.start..start + columns.end;
        match &self.numbers {
            Numbers::F32(all) => to.copy_from_slice(&all[range]),
            Numbers::F16(all) => {
                all[range.clone()].iter().for_each(|column| ahead(column, range.len()));
                // one long loop becomes vectors wherever it is put, and one of 32 within another does not
                for (to, from) in to.as_flattened_mut().iter_mut().zip(all[range].as_flattened()) {
                    *to = single(*from);
                }
            }
            Numbers::Bf16(all) => {
                all[range.clone()].iter().for_each(|column| ahead(column, range.len()));
                for (to, from) in to.as_flattened_mut().iter_mut().zip(all[range].as_flattened()) {
                    *to = f32::from_bits(u32::from(from.to_bits()) << 16);
                }
            }
            Numbers::Q8(all) => {
                let first = number * self.columns.div_ceil(Block::COLUMNS) + columns.start / Block::COLUMNS;
                for (block, to) in all[first..].iter().zip(to.chunks_mut(Block::COLUMNS)) {
                    ahead(block, 2);
                    block.widen(simd, to);
                }
            }
            Numbers::Q4(all) => {
                let first = number * self.columns.div_ceil(Super::COLUMNS);
                for (place, to) in (columns.start / q4::RUN..).zip(to.chunks_mut(q4::RUN)) {
                    all[first + place / q4::RUNS].widen(place % q4::RUNS, to);
                }
            }
        }
    }

    /// The whole matrix, `[rows, columns]` in float32.
    ///
    /// # Errors
    /// candle's.
    pub fn tensor(&self) -> Result<Tensor> {
        let mut data = vec![0.0; self.rows * self.columns];
        let rows = data.par_chunks_mut((PANEL * self.columns).max(1));
        rows.enumerate().for_each(|(number, rows)| {
            let mut scratch = Vec::new();
            let panel = self.panel(number, &mut scratch);
            for (lane, row) in rows.chunks_exact_mut(self.columns.max(1)).enumerate() {
                row.iter_mut().zip(panel).for_each(|(x, lanes)| *x = lanes[lane]);
            }
        });
        Tensor::from_vec(data, (self.rows, self.columns), &Device::Cpu)
    }

    /// Some rows, `[indices, columns]` in float32.
    ///
    /// # Errors
    /// Where there is no such row.
    pub fn select(&self, indices: &[u32]) -> Result<Tensor> {
        let mut data = Vec::with_capacity(indices.len() * self.columns);
        let mut scratch = Vec::new();
        for index in indices {
            let (number, lane) = (*index as usize / PANEL, *index as usize % PANEL);
            if *index as usize >= self.rows {
                bail!("there is no row {index}: this matrix has rows 0 to {}", self.rows.saturating_sub(1));
            }
            data.extend(self.panel(number, &mut scratch).iter().map(|lanes| lanes[lane]));
        }
        Tensor::from_vec(data, (indices.len(), self.columns), &Device::Cpu)
    }

    /// Some columns, as float32.
    ///
    /// # Errors
    /// Where there are not so many.
    pub(crate) fn columns(&self, start: usize, count: usize) -> Result<Self> {
        if start + count > self.columns {
            bail!("there are no columns {start} to {} of {}", start + count, self.columns);
        }
        let mut part = Self::zeros(self.rows, count, Precision::F32)?;
        if let Numbers::F32(all) = &mut part.numbers {
            let mut scratch = Vec::new();
            for (number, to) in all.chunks_exact_mut(count.max(1)).enumerate() {
                to.copy_from_slice(&self.panel(number, &mut scratch)[start..start + count]);
            }
        }
        Ok(part)
    }
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panels([{}, {}], {})", self.rows, self.columns, self.precision())
    }
}

/// Lays the rows of each panel side by side and gives them to `keep`; a panel is `size` entries of `all`.
fn each<'a, T: Send>(
    all: &mut [T],
    (panels, size): (Range<usize>, usize),
    rows: impl IndexedParallelIterator<Item = &'a [f32]>,
    columns: usize,
    keep: impl Fn(&mut [T], &[Lanes]) + Sync,
) {
    let panels = all[panels.start * size..panels.end * size].par_chunks_mut(size);
    panels.zip(rows).for_each(|(panel, rows)| keep(panel, &side_by_side(rows, columns)));
}

/// Up to 32 rows as a panel; zeros for those that are not there.
fn side_by_side(rows: &[f32], columns: usize) -> Vec<Lanes> {
    let mut lanes = vec![[0.0; PANEL]; columns];
    if rows.len() == PANEL * columns {
        interleave(rows, &mut lanes);
    } else {
        interleave(&[rows, &vec![0.0; PANEL * columns - rows.len()]].concat(), &mut lanes);
    }
    lanes
}
