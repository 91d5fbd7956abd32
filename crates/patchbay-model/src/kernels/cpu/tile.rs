//! A panel times a few rows: all that projections are made of.
//!
//! Each output is one lane of one vector, which adds up its products from the first column to the last. So its bits depend on
//! its row and its weights alone, whatever the tile and the instruction set's vectors are.

use pulp::{Simd, WithSimd};

use crate::panels::{AHEAD, Lanes, PANEL, Panels};
use crate::prefetch::ahead;

/// Rows of the largest tile there is a kernel for.
const MOST: usize = 12;

/// How many rows a tile takes at most: as many as have their sums in registers.
pub(super) struct Widest;

impl WithSimd for Widest {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        match (S::F32_LANES, S::REGISTER_COUNT) {
            (16.., _) => MOST,
            (8, _) | (_, 32..) => 6,
            _ => 2,
        }
    }
}

/// Calls a kernel that is compiled for so many rows, 12 at most, and for as many vectors as make half a panel of the narrow ones.
macro_rules! of_rows {
    ($rows:expr, $S:ident, $kernel:ident($($argument:expr),*)) => {
        match $S::F32_LANES {
            8.. => of_rows!($rows, $S, 2, $kernel($($argument),*)),
            _ => of_rows!($rows, $S, 4, $kernel($($argument),*)),
        }
    };
    ($rows:expr, $S:ident, $V:literal, $kernel:ident($($argument:expr),*)) => {
        match $rows {
            0 => (),
            1 => $kernel::<$S, $V, 1>($($argument),*),
            2 => $kernel::<$S, $V, 2>($($argument),*),
            3 => $kernel::<$S, $V, 3>($($argument),*),
            4 => $kernel::<$S, $V, 4>($($argument),*),
            5 => $kernel::<$S, $V, 5>($($argument),*),
            6 => $kernel::<$S, $V, 6>($($argument),*),
            7 => $kernel::<$S, $V, 7>($($argument),*),
            8 => $kernel::<$S, $V, 8>($($argument),*),
            9 => $kernel::<$S, $V, 9>($($argument),*),
            10 => $kernel::<$S, $V, 10>($($argument),*),
            11 => $kernel::<$S, $V, 11>($($argument),*),
            12 => $kernel::<$S, $V, 12>($($argument),*),
            more => unreachable!("a group of {more} rows"),
        }
    };
}

pub(super) use of_rows;

/// `store(r, first, outputs)` of every row r of `x`, where rows lie side by side: `outputs` are those of the panel's rows from
/// `first` on, and come in whole vectors.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    panel: &[Lanes],
    x: &[f32],
    rows: usize,
    mut store: impl FnMut(usize, usize, &[f32]),
) {
    of_rows!(rows, S, tile(simd, panel, x, &mut store));
}

/// The same of a panel of these whose columns have to be widened first: some at a time, which stay where they are until they are used. What
/// many rows read is better widened once.
#[inline(always)]
pub(super) fn multiply_widening<S: Simd>(
    simd: S,
    panel: (&Panels, usize),
    x: &[f32],
    rows: usize,
    mut store: impl FnMut(usize, usize, &[f32]),
) {
    of_rows!(rows, S, widening(simd, panel, x, &mut store));
}

/// Columns that are widened at a time: 8 kB of them.
const WIDENED: usize = 64;

#[inline(always)]
fn widening<S: Simd, const V: usize, const R: usize>(
    simd: S,
    (panels, number): (&Panels, usize),
    x: &[f32],
    store: &mut impl FnMut(usize, usize, &[f32]),
) {
    let (x, _) = x.as_chunks::<R>();
    let mut there = [[0.0; PANEL]; WIDENED];
    let mut sums = [[0.0; PANEL]; R];
    let (_, columns) = panels.dims();
    for start in (0..columns).step_by(WIDENED) {
        let range = start..columns.min(start + WIDENED);
        let there = &mut there[..range.len()];
        panels.widen(simd, number, range.clone(), there);
        for first in (0..PANEL / S::F32_LANES).step_by(V) {
            add_up::<S, V, R>(simd, there, &x[range.clone()], first, &mut sums);
        }
    }
    sums.iter().enumerate().for_each(|(r, sums)| store(r, 0, sums));
}

/// Adds products to the sums of R rows, V vectors from one on.
#[inline(always)]
fn add_up<S: Simd, const V: usize, const R: usize>(
    simd: S,
    panel: &[Lanes],
    x: &[[f32; R]],
    first: usize,
    sums: &mut [Lanes; R],
) {
    let mut held = [[simd.splat_f32s(0.0); V]; R];
    for (held, sums) in held.iter_mut().zip(sums.iter()) {
        let (vectors, _) = S::as_simd_f32s(sums);
        held.copy_from_slice(&vectors[first..first + V]);
    }
    for (lanes, x) in panel.iter().zip(x) {
        let (weights, _) = S::as_simd_f32s(lanes);
        for r in 0..R {
            let x = simd.splat_f32s(x[r]);
            for v in 0..V {
                held[r][v] = simd.mul_add_e_f32s(weights[first + v], x, held[r][v]);
            }
        }
    }
    for (held, sums) in held.iter().zip(sums.iter_mut()) {
        let (vectors, _) = S::as_mut_simd_f32s(sums);
        vectors[first..first + V].copy_from_slice(held);
    }
}

/// R rows times V vectors of the panel's rows at a time.
#[inline(always)]
fn tile<S: Simd, const V: usize, const R: usize>(
    simd: S,
    panel: &[Lanes],
    x: &[f32],
    store: &mut impl FnMut(usize, usize, &[f32]),
) {
    let (x, _) = x.as_chunks::<R>();
    let width = V * S::F32_LANES;
    for first in (0..PANEL).step_by(width) {
        let vector = first / S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (lanes, x) in panel.iter().zip(x) {
            ahead(lanes, AHEAD);
            let (weights, _) = S::as_simd_f32s(lanes);
            for r in 0..R {
                let x = simd.splat_f32s(x[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(weights[vector + v], x, sums[r][v]);
                }
            }
        }
        hand_out::<S, V, R>(&sums, first, store);
    }
}

/// Stores each row's sums, as the panel's lanes from `first` on.
#[inline(always)]
pub(super) fn hand_out<S: Simd, const V: usize, const R: usize>(
    sums: &[[S::f32s; V]; R],
    first: usize,
    store: &mut impl FnMut(usize, usize, &[f32]),
) {
    for (r, sums) in sums.iter().enumerate() {
        let mut outputs = [0.0; PANEL];
        let (vectors, _) = S::as_mut_simd_f32s(&mut outputs);
        vectors[..V].copy_from_slice(sums);
        store(r, first, &outputs[..V * S::F32_LANES]);
    }
}
