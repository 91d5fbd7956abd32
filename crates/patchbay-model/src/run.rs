//! The rows that go through a block.

use candle_core::{Result, Tensor};

use crate::memory::KeyMemory;
use crate::segments::Segments;

/// Which packed rows go through a block, how far, and what they look back on.
pub struct Run<'a> {
    /// The rows that come in.
    pub segments: &'a Segments,
    /// Those that go on once keys and values are made; all where nothing stands here.
    pub onward: Option<&'a Onward>,
    /// What was kept of earlier passes.
    pub memory: &'a mut dyn KeyMemory,
}

/// Rows that go on after a block's keys and values are made, where others were needed for these alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    /// Which of the rows that came in, in order.
    pub rows: Vec<u32>,
    /// The segments that they are packed as, which look on keys of the rows that came in.
    pub segments: Segments,
}

impl<'a> Run<'a> {
    /// All rows of these segments, to the end of the block.
    pub fn whole(segments: &'a Segments, memory: &'a mut dyn KeyMemory) -> Self {
        Self { segments, onward: None, memory }
    }

    /// Of `x: [T, ..]` the rows that go on.
    pub(crate) fn going_on(&self, x: &Tensor) -> Result<Tensor> {
        let Some(Onward { rows, .. }) = self.onward else { return Ok(x.clone()) };
        x.index_select(&Tensor::from_slice(rows, rows.len(), x.device())?, 0)
    }

    /// The segments of the rows that go on.
    pub(crate) fn onward_segments(&self) -> &Segments {
        self.onward.map_or(self.segments, |onward| &onward.segments)
    }
}
