//! Tensors as slices of floats.

use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::slice::from_raw_parts_mut;

use candle_core::{CpuStorage, Result, Storage, StorageRef, Tensor, bail};

/// The floats of a contiguous tensor in the processor's memory, in row-major order.
pub(super) struct Floats<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Floats<'a> {
    /// # Errors
    /// Where the tensor is not float32, not contiguous, on another device, or tracked for a backward pass.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        if tensor.track_op() {
            bail!("the cpu kernels have no backward: run tracked tensors through the plain kernels");
        }
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("the cpu kernels need a contiguous tensor, not {layout:?}");
        };
        if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
            bail!("the cpu kernels need float32 on the cpu, not {:?} on {:?}", tensor.dtype(), tensor.device());
        }
        Ok(Self { storage, range: start..end })
    }
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(floats)) => &floats[self.range.clone()],
            // `of` lets nothing else in.
            _ => &[],
        }
    }
}

/// Some neighbouring columns of some neighbouring rows of a matrix, to be written.
pub(super) struct Columns<'a> {
    /// The first row's.
    first: *mut f32,
    rows: usize,
    columns: usize,
    /// Numbers from a row to the next.
    width: usize,
    of: PhantomData<&'a mut [f32]>,
}

#[allow(unsafe_code)]
// SAFETY: it is an exclusive borrow of its numbers, as a slice of them would be: `split_columns` and `split_rows` give out every
// number once.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// # Panics
    /// Where there is no such row.
    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        #[allow(unsafe_code)]
        // SAFETY: the row is one of those that were given out, and nobody else has its columns here
        unsafe {
            from_raw_parts_mut(self.first.add(row * self.width), self.columns)
        }
    }

    /// The first rows, as many as there are of so many, and the others.
    pub(super) fn split_rows(self, rows: usize) -> (Self, Self) {
        let rows = rows.min(self.rows);
        let rest = Self { first: self.first.wrapping_add(rows * self.width), rows: self.rows - rows, ..self };
        (Self { rows, ..self }, rest)
    }

    /// All rows.
    pub(super) fn into_rows(self) -> impl Iterator<Item = &'a mut [f32]> {
        let Self { first, rows, columns, width, .. } = self;
        #[allow(unsafe_code)]
        // SAFETY: each row is one of those that were given out, and is given out once, for as long as all were borrowed
        (0..rows).map(move |row| unsafe { from_raw_parts_mut(first.add(row * width), columns) })
    }
}

/// Splits a `[rows, width]` matrix after the same columns of each row: one part for every width in `widths`, which add up to
/// `width`.
///
/// # Panics
/// Where they add up to more.
pub(super) fn split_columns<'a>(
    matrix: &'a mut [f32],
    width: usize,
    widths: impl Iterator<Item = usize>,
) -> impl Iterator<Item = Columns<'a>> {
    let rows = matrix.len() / width.max(1);
    let (first, mut from) = (matrix.as_mut_ptr(), 0);
    widths.map(move |columns| {
        let to = from + columns;
        assert!(to <= width, "{to} columns of {width}");
        let part = Columns { first: first.wrapping_add(from), rows, columns, width, of: PhantomData };
        from = to;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_given_out_once() {
        let mut matrix = [0.0; 5 * 7];
        let parts: Vec<_> = split_columns(&mut matrix, 7, [3, 0, 4].into_iter()).collect();
        for (number, part) in (1_u8..).zip(parts) {
            let (mut above, below) = part.split_rows(2);
            for row in 0..above.rows() {
                above.row(row).iter_mut().for_each(|to| *to += f32::from(number));
            }
            let (none, below) = below.split_rows(0);
            assert_eq!((none.into_rows().count(), below.rows()), (0, 3));
            below.into_rows().flatten().for_each(|to| *to += 10.0 * f32::from(number));
        }
        let row = |factor: f32| [1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0].map(|number| number * factor);
        assert_eq!(matrix.as_slice(), [row(1.0), row(1.0), row(10.0), row(10.0), row(10.0)].concat());
        assert_eq!(split_columns(&mut [], 0, [0].into_iter()).map(|part| part.rows()).sum::<usize>(), 0);
    }

    #[test]
    #[should_panic(expected = "8 columns of 7")]
    fn no_more_columns_than_there_are() {
        split_columns(&mut [0.0; 14], 7, [5, 3].into_iter()).for_each(drop);
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn no_more_rows_than_there_are() {
        split_columns(&mut [0.0; 14], 7, [7].into_iter()).for_each(|mut part| part.row(2).fill(1.0));
    }
}
