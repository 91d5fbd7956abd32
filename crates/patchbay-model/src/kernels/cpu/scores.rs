//! Scores of neighbouring queries of the heads that share their keys, so that a key is read once for all of them.
//!
//! A score adds up the products of its query and its key from the first channel to the last, whoever it is computed with.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::Scoring;
use super::heads::Heads;
use super::rows::multiply;
use crate::panels::{Lanes, PANEL};

/// A query, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) row: &'a [f32],
    pub(super) head: usize,
    pub(super) position: usize,
}

/// Scores that are written into rows from key 0 on, masked ones as -inf.
pub(super) struct Scores<'a, 'o> {
    /// No query stands before the one before it.
    pub(super) queries: &'a [Query<'a>],
    pub(super) keys: &'a Heads<'a>,
    /// Of the keys.
    pub(super) head: usize,
    /// Tokens of the whole sequence.
    pub(super) length: usize,
    pub(super) scoring: &'a Scoring,
    /// A row for each query, which reaches its own position at least.
    pub(super) rows: &'a mut [&'o mut [f32]],
}

impl WithSimd for Scores<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { queries, keys, head, length, scoring, rows } = self;
        let ([first, ..], [.., last]) = (queries, queries) else { return };
        let vectors: Vec<&[f32]> = queries.iter().map(|query| query.row).collect();
        let mut panel = vec![[0.0; PANEL]; keys.dim];
        let start = scoring.first_key(first.position);
        for start in (start - start % PANEL..=last.position).step_by(PANEL) {
            let end = (start + PANEL).min(last.position + 1);
            pack(keys, head, start..end, &mut panel);
            // those that see any of these keys
            let from = queries.partition_point(|query| query.position < start);
            let to = queries.partition_point(|query| scoring.first_key(query.position) < end);
            multiply(simd, &panel, vectors.get(from..to).unwrap_or_default(), |row, lane, products| {
                let row = &mut *rows[from + row];
                let at = (start + lane).min(row.len())..(start + lane + products.len()).min(end).min(row.len());
                if let Some(to) = row.get_mut(at) {
                    to.copy_from_slice(&products[..to.len()]);
                }
            });
        }
        for (query, row) in queries.iter().zip(rows) {
            finish(row, query, length, scoring);
        }
    }
}

/// Keys side by side: for each channel those of up to 32 keys.
#[inline(always)]
fn pack(keys: &Heads<'_>, head: usize, range: Range<usize>, panel: &mut [Lanes]) {
    const SIDE: usize = 8;
    let mut at = 0;
    while at + SIDE <= range.len() {
        let rows: [&[f32]; SIDE] = std::array::from_fn(|key| keys.row(range.start + at + key, head));
        let rows = rows.map(|row| &row[..panel.len()]);
        let (blocks, rest) = panel.as_chunks_mut::<SIDE>();
        for (number, block) in blocks.iter_mut().enumerate() {
            let mut square = [[0.0; SIDE]; SIDE];
            for (square, row) in square.iter_mut().zip(rows) {
                square.copy_from_slice(&row[number * SIDE..(number + 1) * SIDE]);
            }
            for (channel, lanes) in block.iter_mut().enumerate() {
                let turned: [f32; SIDE] = std::array::from_fn(|key| square[key][channel]);
                lanes[at..at + SIDE].copy_from_slice(&turned);
            }
        }
        let done = blocks.len() * SIDE;
        for (channel, lanes) in rest.iter_mut().enumerate() {
            for (lane, row) in lanes[at..at + SIDE].iter_mut().zip(rows) {
                *lane = row[done + channel];
            }
        }
        at += SIDE;
    }
    for at in at..range.len() {
        for (lanes, x) in panel.iter_mut().zip(keys.row(range.start + at, head)) {
            lanes[at] = *x;
        }
    }
}

/// Scales the products of a query's row and masks the keys that it does not see.
#[inline(always)]
fn finish(row: &mut [f32], query: &Query<'_>, length: usize, scoring: &Scoring) {
    let Query { head, position, .. } = *query;
    let first = scoring.first_key(position);
    row[..first].fill(f32::NEG_INFINITY);
    row[position + 1..].fill(f32::NEG_INFINITY);
    for score in &mut row[first..=position] {
        *score *= scoring.scale;
    }
    if let Some(cap) = scoring.soft_cap {
        for score in &mut row[first..=position] {
            *score = (*score / cap).tanh() * cap;
        }
    }
    if scoring.alibi.is_some() {
        for (key, score) in (first..).zip(&mut row[first..=position]) {
            *score += scoring.bias(head, key, length);
        }
    }
}
