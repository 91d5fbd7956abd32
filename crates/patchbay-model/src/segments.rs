//! Which of the packed tokens belong together, and what they look back on.

/// A run of tokens of one sequence, packed beside others without padding.
///
/// A token looks on the keys of its sequence from position 0 to its own. They lie in one or several sources of keys: the
/// pass that computes the run is the first source, and what was kept of earlier passes are the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First packed row.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// Position of the first token in its sequence; 0 for a whole prompt.
    pub position: usize,
    /// Number of tokens of the whole sequence, these and all others.
    pub length: usize,
    /// Where the keys and values of positions 0 to `position + len` lie, in this order.
    pub keys: Vec<Span>,
}

/// Neighbouring rows of a source of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the source; 0 is the running pass.
    pub source: usize,
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
}

impl Segment {
    /// A whole sequence of this length, whose first token is this packed row.
    pub fn whole(start: usize, len: usize) -> Self {
        Self { start, len, position: 0, length: len, keys: vec![Span { source: 0, start, len }] }
    }

    /// How many keys its last token looks on.
    pub fn key_count(&self) -> usize {
        self.position + self.len
    }

    /// The positions of its tokens.
    pub fn positions(&self) -> std::ops::Range<usize> {
        self.position..self.position + self.len
    }
}

/// Runs of tokens of one sequence each, packed one after the other: T tokens in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Whole prompts of these lengths, in tokens.
    pub fn from_lengths(lengths: &[usize]) -> Self {
        let mut start = 0;
        let place = |len: &usize| {
            start += len;
            Segment::whole(start - len, *len)
        };
        Self(lengths.iter().map(place).collect())
    }

    /// These segments, each of which starts where the one before it ends.
    pub fn new(segments: Vec<Segment>) -> Self {
        debug_assert!(segments.windows(2).all(|pair| pair[0].start + pair[0].len == pair[1].start), "{segments:?}");
        Self(segments)
    }

    /// Number of packed tokens (T).
    pub fn tokens(&self) -> usize {
        self.0.last().map_or(0, |last| last.start + last.len)
    }

    /// Number of elements of a packed `[heads, len, keys]` value, one such matrix a segment.
    pub fn pairs(&self, heads: usize) -> usize {
        self.0.iter().map(|segment| heads * segment.len * segment.key_count()).sum()
    }

    /// The position of each packed token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(Segment::positions)
    }

    /// The segments, in packed order.
    pub fn iter(&self) -> std::slice::Iter<'_, Segment> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Segments {
    type Item = &'a Segment;
    type IntoIter = std::slice::Iter<'a, Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_one_after_the_other() {
        let whole = Segments::from_lengths(&[2, 3]);
        assert_eq!(whole.tokens(), 5);
        assert_eq!(whole.pairs(2), 2 * (4 + 9));
        assert_eq!(whole.iter().map(|segment| segment.start).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(Segments::default().tokens(), 0);
        let later = Segment { position: 5, length: 9, ..Segment::whole(2, 3) };
        let segments = Segments::new(vec![Segment::whole(0, 2), later]);
        assert_eq!(segments.positions().collect::<Vec<_>>(), [0, 1, 5, 6, 7]);
        assert_eq!(segments.pairs(2), 2 * (4 + 3 * 8));
    }
}
