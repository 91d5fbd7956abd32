//! Which of the packed tokens belong together.

/// A run of tokens of one sequence, packed beside others without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First packed row.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// Position of the first token in its sequence; 0 for a whole prompt.
    pub position: usize,
}

/// Runs of tokens of one sequence each, packed one after the other: T tokens in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Whole prompts of these lengths, in tokens.
    pub fn from_lengths(lengths: &[usize]) -> Self {
        Self::from_runs(lengths.iter().map(|&len| (len, 0)))
    }

    /// Runs of `(length, position of the first token)`.
    pub fn from_runs(runs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut start = 0;
        let place = |(len, position)| {
            let segment = Segment { start, len, position };
            start += len;
            segment
        };
        Self(runs.into_iter().map(place).collect())
    }

    /// Number of packed tokens (T).
    pub fn tokens(&self) -> usize {
        self.0.last().map_or(0, |last| last.start + last.len)
    }

    /// Number of elements of a packed `[heads, len, len]` value, one such matrix a segment.
    pub fn pairs(&self, heads: usize) -> usize {
        self.0.iter().map(|segment| heads * segment.len * segment.len).sum()
    }

    /// The position of each packed token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|segment| segment.position..segment.position + segment.len)
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
        let segments = Segments::from_runs([(2, 0), (3, 5)]);
        assert_eq!(segments.tokens(), 5);
        assert_eq!(segments.pairs(2), 2 * (4 + 9));
        assert_eq!(segments.positions().collect::<Vec<_>>(), [0, 1, 5, 6, 7]);
        assert_eq!(segments.iter().map(|segment| segment.start).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(Segments::default().tokens(), 0);
    }
}
