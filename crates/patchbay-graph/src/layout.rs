//! Where the rows of the inputs lie in a packed matrix.

use crate::plan::PlanInput;
use crate::selection::{Blocks, Gather, Placement, RowPlacement, Selection};
use crate::site::Packing;

/// A row of an input, packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedRow {
    /// Number of the input.
    pub input: usize,
    /// Number of the row in it.
    pub row: usize,
    /// Number of tokens.
    pub len: usize,
}

/// The rows of a packed matrix, one after the other, and which of their tokens are there.
#[derive(Clone, Debug)]
pub struct Layout {
    rows: Vec<PackedRow>,
    /// First packed token of each row.
    starts: Vec<usize>,
    tokens: usize,
    /// Tokens in the matrix at hand.
    here: usize,
    /// For each packed token its place in the matrix at hand, where only some are there.
    kept: Option<Vec<Option<u32>>>,
}

impl Layout {
    /// Every row of these inputs, whole.
    pub fn of_inputs(inputs: &[PlanInput], which: impl Iterator<Item = usize>) -> Self {
        let rows = which.flat_map(|input| {
            inputs[input].lengths.iter().enumerate().map(move |(row, len)| PackedRow { input, row, len: *len })
        });
        Self::new(rows.collect())
    }

    fn new(rows: Vec<PackedRow>) -> Self {
        let mut tokens = 0;
        let mut starts = Vec::with_capacity(rows.len());
        for row in &rows {
            starts.push(tokens);
            tokens += row.len;
        }
        Self { rows, starts, tokens, here: tokens, kept: None }
    }

    /// The rows.
    pub fn rows(&self) -> &[PackedRow] {
        &self.rows
    }

    /// Lengths of the rows.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.len).collect()
    }

    /// The rows for which `keep` answers true, and the packed tokens that they have in this layout.
    pub fn retain(&self, keep: impl Fn(&PackedRow) -> bool) -> (Self, Vec<u32>) {
        let mut tokens = Vec::new();
        let mut rows = Vec::new();
        for (row, start) in self.rows.iter().zip(&self.starts).filter(|(row, _)| keep(row)) {
            rows.push(*row);
            tokens.extend(*start as u32..(start + row.len) as u32);
        }
        (Self::new(rows), tokens)
    }

    /// Only some tokens of each row, and which packed tokens those are.
    pub fn keep_tokens(&self, wanted: impl Fn(&PackedRow) -> Vec<usize>) -> (Self, Vec<u32>) {
        let mut kept = vec![None; self.tokens];
        let mut tokens = Vec::new();
        for (row, start) in self.rows.iter().zip(&self.starts) {
            for token in wanted(row) {
                kept[start + token] = Some(tokens.len() as u32);
                tokens.push((start + token) as u32);
            }
        }
        (Self { kept: Some(kept), here: tokens.len(), ..self.clone() }, tokens)
    }

    /// The blocks of a site's packed value that a selection of one input means.
    pub fn blocks(&self, input: usize, packing: Packing, selection: &Selection) -> Blocks {
        let blocks = selection.blocks(&self.placement(input, packing));
        match (&self.kept, packing) {
            (Some(kept), Packing::Channels { width }) => restrict(blocks, width, kept),
            _ => blocks,
        }
    }

    /// Size and number of the blocks that [`blocks`](Self::blocks) lists, without listing them; `placement` is that of the
    /// input.
    pub fn gather(&self, placement: &Placement, packing: Packing, selection: &Selection) -> Gather {
        let gather = selection.gather(placement);
        match (&self.kept, packing) {
            (Some(_), Packing::Channels { width }) => {
                let total = self.here;
                let cut = gather.size.div_ceil(width).max(1);
                let (size, blocks) = (gather.size / cut, gather.blocks * cut);
                let total = total * (width / size);
                Gather { size, blocks, total, padded: gather.padded, whole: blocks == total && !gather.padded }
            }
            _ => gather,
        }
    }

    /// Number of tokens in the matrix at hand.
    pub fn here(&self) -> usize {
        self.here
    }

    /// Where the rows of an input lie in a site's packed value, all tokens of the rows counted.
    pub fn placement(&self, input: usize, packing: Packing) -> Placement {
        let mut rows = Vec::new();
        let mut offset = 0;
        for (row, start) in self.rows.iter().zip(&self.starts) {
            let size = match packing {
                Packing::Channels { width } => row.len * width,
                Packing::Heads { heads, dim } => row.len * heads * dim,
                Packing::Pairs { heads } => row.len * row.len * heads,
            };
            if row.input == input {
                let (base, strides) = match packing {
                    Packing::Channels { width } => (start * width, vec![0, width, 1]),
                    Packing::Heads { heads, dim } => (start * heads * dim, vec![0, dim, heads * dim, 1]),
                    Packing::Pairs { .. } => (offset, vec![0, row.len * row.len, row.len, 1]),
                };
                rows.push(RowPlacement { base, strides });
            }
            offset += size;
        }
        Placement { rows, elements: offset }
    }
}

/// Renumbers blocks for a matrix that has only some of the tokens.
fn restrict(blocks: Blocks, width: usize, kept: &[Option<u32>]) -> Blocks {
    // blocks of several tokens are cut into blocks of one
    let cut = blocks.size.div_ceil(width).max(1);
    let size = blocks.size / cut;
    let per_token = width / size;
    let place = |block: usize| match kept.get(block / per_token).copied().flatten() {
        Some(token) => token * per_token as u32 + (block % per_token) as u32,
        None => Blocks::PAD,
    };
    let index = blocks.index.iter().flat_map(|block| {
        let pad = *block == Blocks::PAD;
        (0..cut).map(move |i| if pad { Blocks::PAD } else { place(*block as usize * cut + i) })
    });
    let total = kept.iter().flatten().count() * per_token;
    Blocks { size, index: index.collect(), total }
}
