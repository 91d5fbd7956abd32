//! Tensors as slices of floats.

use std::ops::{Deref, Range};

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

/// Splits each row of a `[rows, width]` matrix after the same columns: for every width in `widths`, which add up to
/// `width`, the rows' parts.
pub(super) fn split_columns(
    matrix: &mut [f32],
    width: usize,
    widths: impl Iterator<Item = usize> + Clone,
) -> Vec<Vec<&mut [f32]>> {
    let rows = matrix.len() / width.max(1);
    let mut parts: Vec<_> = widths.clone().map(|_| Vec::with_capacity(rows)).collect();
    for mut row in matrix.chunks_exact_mut(width.max(1)) {
        for (part, width) in parts.iter_mut().zip(widths.clone()) {
            let (head, tail) = row.split_at_mut(width);
            part.push(head);
            row = tail;
        }
    }
    parts
}
