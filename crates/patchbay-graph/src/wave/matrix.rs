//! Where lanes and rows lie in a packed matrix.

use super::lanes::{Lane, Piece, View};
use super::mark::Mark;
use super::recall::Recalled;
use crate::plan::PlanInput;
use crate::selection::{Blocks, Gather, Placement, RowPlacement, Selection};
use crate::site::Packing;

/// Lanes in a packed matrix, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    lanes: Vec<usize>,
    /// First packed token of each lane that is there.
    starts: Vec<Option<usize>>,
    tokens: usize,
    /// First element of each lane's attention matrices, for one head.
    pairs: Vec<usize>,
    /// Elements of all attention matrices, for one head.
    all_pairs: usize,
    /// For each packed token its place in the matrix at hand, where only some are there.
    kept: Option<(Vec<Option<u32>>, usize)>,
}

/// Neighbouring keys that a lane looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The known sequence that they are taken from; none where they are of this pass.
    pub known: Option<usize>,
    /// The first row.
    pub start: usize,
    /// How many they are.
    pub len: usize,
}

/// The rows of one input of a request in a wave: numbers of the rows, and where their tokens are.
pub type Views<'a> = [(usize, &'a View)];

impl Matrix {
    /// These lanes.
    pub fn new(lanes: Vec<usize>, all: &[Lane]) -> Self {
        let mut matrix = Self { starts: vec![None; all.len()], pairs: vec![0; all.len()], ..Self::default() };
        for lane in &lanes {
            let Lane { position, ids, .. } = &all[*lane];
            matrix.starts[*lane] = Some(matrix.tokens);
            matrix.pairs[*lane] = matrix.all_pairs;
            matrix.tokens += ids.len();
            matrix.all_pairs += ids.len() * (position + ids.len());
        }
        matrix.lanes = lanes;
        matrix
    }

    /// The lanes.
    pub fn lanes(&self) -> &[usize] {
        &self.lanes
    }

    /// Number of tokens in the matrix at hand.
    pub fn tokens(&self) -> usize {
        self.kept.as_ref().map_or(self.tokens, |(_, here)| *here)
    }

    /// Where a token of a lane is.
    pub fn row(&self, lane: usize, offset: usize) -> Option<u32> {
        let row = self.starts[lane]? + offset;
        match &self.kept {
            None => Some(row as u32),
            Some((kept, _)) => kept[row],
        }
    }

    /// The tokens of some of its lanes.
    pub fn rows_of(&self, lanes: &[usize], all: &[Lane]) -> Vec<u32> {
        let tokens = lanes.iter().flat_map(|lane| (0..all[*lane].ids.len()).map(|offset| (*lane, offset)));
        tokens.filter_map(|(lane, offset)| self.row(lane, offset)).collect()
    }

    /// The same with some of its tokens alone, in this order.
    pub fn keep(&self, rows: &[u32]) -> Self {
        let mut kept = vec![None; self.tokens];
        for (place, row) in (0..).zip(rows) {
            kept[*row as usize] = Some(place);
        }
        Self { kept: Some((kept, rows.len())), ..self.clone() }
    }

    /// The keys that a lane looks on, in the order of their positions: those before it, and its own. Those of the tokens that earlier
    /// passes of its row computed are left out.
    ///
    /// Nothing where some of them are not in the matrix.
    pub fn keys(&self, number: usize, all: &[Lane]) -> Option<Vec<Keys>> {
        let lane = &all[number];
        let own = Piece { position: usize::MAX, lane: number, offset: 0, len: lane.ids.len() };
        let mut before = lane.recalled.iter().peekable();
        let mut spans: Vec<Keys> = Vec::new();
        for piece in lane.before.iter().chain([&own]) {
            while let Some(Recalled { position, known, len }) =
                before.next_if(|recalled| recalled.position < piece.position)
            {
                spans.push(Keys { known: Some(*known), start: *position, len: *len });
            }
            let start = self.starts[piece.lane]? + piece.offset;
            match spans.last_mut() {
                Some(last) if last.known.is_none() && last.start + last.len == start => last.len += piece.len,
                _ => spans.push(Keys { known: None, start, len: piece.len }),
            }
        }
        let count: usize = spans.iter().map(|keys| keys.len).sum();
        (count + lane.past.0 == lane.position + lane.ids.len()).then_some(spans)
    }

    /// Where each token of a row is: in its own lane if that is there.
    pub fn tokens_of(&self, view: &View, len: usize) -> Vec<Option<u32>> {
        let mut tokens = vec![None; len];
        for piece in view.clean.iter().chain(&view.own) {
            for i in 0..piece.len {
                let row = self.row(piece.lane, piece.offset + i);
                tokens[piece.position + i] = row.or(tokens[piece.position + i]);
            }
        }
        tokens
    }

    /// The blocks of a site's packed value that a selection of one input means; [`Blocks::PAD`] for tokens that are not there.
    pub fn blocks(&self, input: &PlanInput, views: &Views<'_>, packing: Packing, selection: &Selection) -> Blocks {
        let width = match packing {
            Packing::Channels { width } => width,
            Packing::Heads { heads, dim } => heads * dim,
            Packing::Pairs { heads } => return self.matrices(input, views, heads, selection),
        };
        let blocks = selection.blocks(&packed(input, packing));
        let mut rows: Vec<Vec<Option<u32>>> = input.lengths.iter().map(|len| vec![None; *len]).collect();
        for (row, view) in views {
            rows[*row] = self.tokens_of(view, input.lengths[*row]);
        }
        relocated(blocks, width, &rows.concat(), self.tokens())
    }

    /// The same for attention matrices, each of which is that of one lane.
    fn matrices(&self, input: &PlanInput, views: &Views<'_>, heads: usize, selection: &Selection) -> Blocks {
        let elements = self.all_pairs * heads;
        let row = |row: usize| {
            let len = input.lengths[row];
            let view = views.iter().find(|(number, _)| *number == row);
            let lane = view.and_then(|(_, view)| view.own.iter().find(|piece| piece.len == len));
            let there = lane.filter(|piece| self.starts[piece.lane].is_some());
            let base = there.map_or(elements, |piece| self.pairs[piece.lane] * heads);
            let keys = input.keys(row);
            RowPlacement { base, strides: vec![0, len * keys, keys, 1] }
        };
        let placement = Placement { rows: (0..input.lengths.len()).map(row).collect(), elements };
        let mut blocks = selection.blocks(&placement);
        let outside = |block: &&mut u32| **block as usize >= blocks.total;
        blocks.index.iter_mut().filter(outside).for_each(|block| *block = Blocks::PAD);
        blocks
    }

    /// Size and number of the blocks that [`blocks`](Self::blocks) gives, without listing them; `rows` are the input's as
    /// [`packed`] has them.
    pub fn gather(&self, rows: &Placement, packing: Packing, selection: &Selection) -> Gather {
        let gather = selection.gather(rows);
        let width = match packing {
            Packing::Channels { width } => width,
            Packing::Heads { heads, dim } => heads * dim,
            Packing::Pairs { heads } => {
                let total = self.all_pairs * heads / gather.size.max(1);
                return Gather { total, whole: gather.whole && total == gather.blocks, ..gather };
            }
        };
        let whole = gather.whole && gather.blocks * gather.size == self.tokens() * width;
        let cut = if whole { 1 } else { gather.size.div_ceil(width).max(1) };
        let (size, blocks) = (gather.size / cut, gather.blocks * cut);
        Gather { size, blocks, total: self.tokens() * width / size.max(1), padded: gather.padded, whole }
    }
}

/// Where the rows of an input lie when they are packed one after the other.
pub fn packed(input: &PlanInput, packing: Packing) -> Placement {
    let mut elements = 0;
    let row = |(row, len): (usize, &usize)| {
        let keys = input.keys(row);
        let (size, strides) = match packing {
            Packing::Channels { width } => (len * width, vec![0, width, 1]),
            Packing::Heads { heads, dim } => (len * heads * dim, vec![0, dim, heads * dim, 1]),
            Packing::Pairs { heads } => (len * keys * heads, vec![0, len * keys, keys, 1]),
        };
        elements += size;
        RowPlacement { base: elements - size, strides }
    };
    let rows = input.lengths.iter().enumerate().map(row).collect();
    Placement { rows, elements }
}

/// Blocks of densely packed rows as blocks of a matrix in which each of their tokens is elsewhere.
fn relocated(blocks: Blocks, width: usize, tokens: &[Option<u32>], total: usize) -> Blocks {
    let in_place = tokens.len() == total && (0..).zip(tokens).all(|(place, token)| *token == Some(place));
    if in_place {
        return blocks;
    }
    // blocks of several tokens are cut into blocks of one
    let cut = blocks.size.div_ceil(width).max(1);
    let size = blocks.size / cut;
    let per_token = width / size;
    let mut index = Vec::with_capacity(blocks.index.len() * cut);
    for block in &blocks.index {
        for i in 0..cut {
            index.push(match *block {
                Blocks::PAD => Blocks::PAD,
                block => {
                    let block = block as usize * cut + i;
                    let token = tokens.get(block / per_token).copied().flatten();
                    token.map_or(Blocks::PAD, |token| token * per_token as u32 + (block % per_token) as u32)
                }
            });
        }
    }
    Blocks { size, index, total: total * per_token }
}

/// Where each token of the lanes that join is copied from, after those that are there already.
pub(super) fn joined(before: &Matrix, joining: &[usize], all: &[Lane]) -> Option<Vec<u32>> {
    let mut rows = Vec::new();
    for lane in joining {
        for piece in &all[*lane].source {
            for i in 0..piece.len {
                rows.push(before.row(piece.lane, piece.offset + i)?);
            }
        }
    }
    debug_assert!(joining.iter().all(|lane| all[*lane].from > Mark::EMBEDDED));
    Some(rows)
}
