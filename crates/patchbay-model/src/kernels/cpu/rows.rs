//! A panel times rows that lie apart: what attention is made of.

use pulp::Simd;

use super::tile::{Widest, hand_out, of_rows};
use crate::panels::{Lanes, PANEL};

/// `store(r, first, sums)` of every row r: `sums` are `Σ_k row[k] · panel[k]` in the panel's lanes from `first` on, and come in
/// whole vectors. Rows are as long as the panel.
///
/// Each sum is one lane of one vector, which adds up its products from the first to the last. So its bits depend on its row and
/// its lane alone, whatever the tile and the instruction set's vectors are.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    panel: &[Lanes],
    rows: &[&[f32]],
    mut store: impl FnMut(usize, usize, &[f32]),
) {
    use pulp::WithSimd;

    let mut done = 0;
    for rows in rows.chunks(Widest.with_simd(simd)) {
        let store = &mut |row, first, sums: &[f32]| store(done + row, first, sums);
        of_rows!(rows.len(), S, tile(simd, panel, rows, store));
        done += rows.len();
    }
}

/// R rows times V vectors of the panel's lanes at a time.
#[inline(always)]
fn tile<S: Simd, const V: usize, const R: usize>(
    simd: S,
    panel: &[Lanes],
    rows: &[&[f32]],
    store: &mut impl FnMut(usize, usize, &[f32]),
) {
    let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r][..panel.len()]);
    let width = V * S::F32_LANES;
    for first in (0..PANEL).step_by(width) {
        let vector = first / S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (k, lanes) in panel.iter().enumerate() {
            let (lanes, _) = S::as_simd_f32s(lanes);
            for r in 0..R {
                let x = simd.splat_f32s(rows[r][k]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(lanes[vector + v], x, sums[r][v]);
                }
            }
        }
        hand_out::<S, V, R>(&sums, first, store);
    }
}
