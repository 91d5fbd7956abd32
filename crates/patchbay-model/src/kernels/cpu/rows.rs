//! A panel times rows that lie apart: what attention is made of.

use pulp::Simd;

use super::tile::{Widest, hand_out};
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
        match S::F32_LANES {
            8.. => some_rows::<S, 2>(simd, panel, rows, store),
            _ => some_rows::<S, 4>(simd, panel, rows, store),
        }
        done += rows.len();
    }
}

#[inline(always)]
fn some_rows<S: Simd, const V: usize>(
    simd: S,
    panel: &[Lanes],
    rows: &[&[f32]],
    store: &mut impl FnMut(usize, usize, &[f32]),
) {
    match *rows {
        [a] => tile::<S, V, 1>(simd, panel, [a], store),
        [a, b] => tile::<S, V, 2>(simd, panel, [a, b], store),
        [a, b, c] => tile::<S, V, 3>(simd, panel, [a, b, c], store),
        [a, b, c, d] => tile::<S, V, 4>(simd, panel, [a, b, c, d], store),
        [a, b, c, d, e] => tile::<S, V, 5>(simd, panel, [a, b, c, d, e], store),
        [a, b, c, d, e, f] => tile::<S, V, 6>(simd, panel, [a, b, c, d, e, f], store),
        [a, b, c, d, e, f, g] => tile::<S, V, 7>(simd, panel, [a, b, c, d, e, f, g], store),
        [a, b, c, d, e, f, g, h] => tile::<S, V, 8>(simd, panel, [a, b, c, d, e, f, g, h], store),
        [a, b, c, d, e, f, g, h, i] => tile::<S, V, 9>(simd, panel, [a, b, c, d, e, f, g, h, i], store),
        [a, b, c, d, e, f, g, h, i, j] => tile::<S, V, 10>(simd, panel, [a, b, c, d, e, f, g, h, i, j], store),
        [a, b, c, d, e, f, g, h, i, j, k] => tile::<S, V, 11>(simd, panel, [a, b, c, d, e, f, g, h, i, j, k], store),
        [a, b, c, d, e, f, g, h, i, j, k, l] => {
            tile::<S, V, 12>(simd, panel, [a, b, c, d, e, f, g, h, i, j, k, l], store);
        }
        _ => (),
    }
}

/// R rows times V vectors of the panel's lanes at a time.
#[inline(always)]
fn tile<S: Simd, const V: usize, const R: usize>(
    simd: S,
    panel: &[Lanes],
    rows: [&[f32]; R],
    store: &mut impl FnMut(usize, usize, &[f32]),
) {
    let rows = rows.map(|row| &row[..panel.len()]);
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
