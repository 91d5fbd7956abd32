//! Mixes of values for neighbouring queries of the heads that share them, so that a value is read once for all of them.
//!
//! A channel of a query adds up its values from the first key to the last, whoever it is mixed with; a key that it does not see
//! adds an exact zero.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::heads::Heads;
use super::rows::multiply;
use super::tile::Widest;
use crate::panels::PANEL;

/// Some queries' mixes.
pub(super) struct Mix<'a, 'o> {
    /// Each one's probabilities, of the keys from position 0 on; 0 where it does not look.
    pub(super) probs: &'a [&'a [f32]],
    /// The keys that each one looks on: no range begins or ends before that of the query before.
    pub(super) looks: &'a [Range<usize>],
    pub(super) values: &'a Heads<'a>,
    /// Of the values.
    pub(super) head: usize,
    /// Each one's channels.
    pub(super) output: &'a mut [&'o mut [f32]],
}

impl WithSimd for Mix<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { probs, looks, values, head, output } = self;
        let ([first, ..], [.., last]) = (looks, looks) else { return };
        let all = first.start..last.end;
        let together = Widest.with_simd(simd);
        let mut panel = vec![[0.0; PANEL]; all.len()];
        for channel in (0..values.dim).step_by(PANEL) {
            let channels = channel..values.dim.min(channel + PANEL);
            for (lanes, key) in panel.iter_mut().zip(all.clone()) {
                lanes[..channels.len()].copy_from_slice(&values.row(key, head)[channels.clone()]);
            }
            for ((probs, looks), output) in
                probs.chunks(together).zip(looks.chunks(together)).zip(output.chunks_mut(together))
            {
                let keys = looks[0].start..looks[looks.len() - 1].end;
                let probs: Vec<&[f32]> = probs.iter().map(|probs| &probs[keys.clone()]).collect();
                multiply(simd, &panel[keys.start - all.start..keys.end - all.start], &probs, |row, lane, sums| {
                    let to = channels.start + lane..(channels.start + lane + sums.len()).min(channels.end);
                    if let Some(to) = output[row].get_mut(to) {
                        to.copy_from_slice(&sums[..to.len()]);
                    }
                });
            }
        }
    }
}
