//! Each query's mix of values, for neighbouring queries of one head together, so that a value is read once for all of them.
//!
//! A channel of a query adds up its values from its first key to its last, whoever it is mixed with.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::attention::Heads;

/// Neighbouring queries of one head.
pub(super) struct Mix<'a, 'o> {
    /// Each one's probabilities, of the keys from position 0 on.
    pub(super) probs: &'a [&'a [f32]],
    /// The keys that each one looks on: no range begins or ends before that of the query before.
    pub(super) keys: &'a [Range<usize>],
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
        let Self { probs, keys, values, head, output } = self;
        // the sums of all queries and a few vectors of a value have to fit into the registers
        let together = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let parts = probs.chunks(together).zip(keys.chunks(together)).zip(output.chunks_mut(together));
        for ((probs, keys), output) in parts {
            match (probs, keys, output) {
                ([a, b, c, d], [i, j, k, l], [w, x, y, z]) => {
                    rows(simd, [a, b, c, d], [i, j, k, l], values, head, [w, x, y, z]);
                }
                ([a, b], [i, j], [w, x]) => rows(simd, [a, b], [i, j], values, head, [w, x]),
                (probs, keys, output) => {
                    for ((probs, keys), output) in probs.iter().zip(keys).zip(output) {
                        rows(simd, [probs], [keys], values, head, [output]);
                    }
                }
            }
        }
    }
}

/// All channels of Q queries.
#[inline(always)]
fn rows<S: Simd, const Q: usize>(
    simd: S,
    probs: [&[f32]; Q],
    keys: [&Range<usize>; Q],
    values: &Heads<'_>,
    head: usize,
    output: [&mut &mut [f32]; Q],
) {
    let mut whole: [&mut [S::f32s]; Q] = std::array::from_fn(|_| Default::default());
    let mut rest: [&mut [f32]; Q] = std::array::from_fn(|_| Default::default());
    for (query, output) in output.into_iter().enumerate() {
        (whole[query], rest[query]) = S::as_mut_simd_f32s(output);
    }
    let (vectors, left) = (whole[0].len(), rest[0].len());
    let of = |key: usize| S::as_simd_f32s(values.row(key, head)).0;
    let mut at = 0;
    while at + 4 <= vectors {
        let totals = sums::<S, Q, 4>(simd, probs, keys, |key| vectors_at(of(key), at));
        for (whole, totals) in whole.iter_mut().zip(totals) {
            whole[at..at + 4].copy_from_slice(&totals);
        }
        at += 4;
    }
    for at in at..vectors {
        let totals = sums::<S, Q, 1>(simd, probs, keys, |key| vectors_at(of(key), at));
        whole.iter_mut().zip(totals).for_each(|(whole, [total])| whole[at] = total);
    }
    if left > 0 {
        let last = |key: usize| [simd.partial_load_f32s(S::as_simd_f32s(values.row(key, head)).1)];
        let totals = sums::<S, Q, 1>(simd, probs, keys, last);
        rest.iter_mut().zip(totals).for_each(|(rest, [total])| simd.partial_store_f32s(rest, total));
    }
}

#[inline(always)]
fn vectors_at<V: Copy, const N: usize>(of: &[V], at: usize) -> [V; N] {
    let of = &of[at..at + N];
    std::array::from_fn(|n| of[n])
}

/// `Σ_j probs[q][j] · value(j)` over the keys j of each query q.
#[inline(always)]
fn sums<S: Simd, const Q: usize, const N: usize>(
    simd: S,
    probs: [&[f32]; Q],
    keys: [&Range<usize>; Q],
    value: impl Fn(usize) -> [S::f32s; N],
) -> [[S::f32s; N]; Q] {
    let mut totals = [[simd.splat_f32s(0.0); N]; Q];
    // the keys that all of them look on; before and after these, each has its own
    let all = keys[Q - 1].start..keys[0].end.max(keys[Q - 1].start);
    for q in 0..Q {
        own(simd, &mut totals[q], probs[q], keys[q].start..keys[q].end.min(all.start), &value);
    }
    for key in all.clone() {
        let value = value(key);
        for q in 0..Q {
            add(simd, &mut totals[q], probs[q][key], value);
        }
    }
    for q in 0..Q {
        own(simd, &mut totals[q], probs[q], all.end.max(keys[q].start)..keys[q].end, &value);
    }
    totals
}

/// Adds the values of one query's keys.
#[inline(always)]
fn own<S: Simd, const N: usize>(
    simd: S,
    totals: &mut [S::f32s; N],
    probs: &[f32],
    keys: Range<usize>,
    value: &impl Fn(usize) -> [S::f32s; N],
) {
    let first = keys.start;
    // there are none where the first is behind the last
    for (key, prob) in (first..).zip(probs.get(keys).unwrap_or_default()) {
        add(simd, totals, *prob, value(key));
    }
}

#[inline(always)]
fn add<S: Simd, const N: usize>(simd: S, totals: &mut [S::f32s; N], prob: f32, value: [S::f32s; N]) {
    let prob = simd.splat_f32s(prob);
    for n in 0..N {
        totals[n] = simd.mul_add_e_f32s(prob, value[n], totals[n]);
    }
}
