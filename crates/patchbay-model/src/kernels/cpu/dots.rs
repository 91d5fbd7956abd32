//! Dot products of rows with rows: all that projections and attention scores are made of.

use std::ops::Range;

use pulp::Simd;

/// Rows on the left of a tile.
pub(super) const LEFT: usize = 4;

/// `store(r, [l₀ · r, l₁ · r, …])` for every right row `r` in `range`, the left rows staying in the nearest cache.
///
/// All rows have the same length. A product's bits depend on its two rows alone: the lanes of one vector accumulate
/// them from front to back, whatever the tile, and are added up at the end.
#[inline(always)]
pub(super) fn strip<'a, S: Simd, const L: usize>(
    simd: S,
    left: [&[f32]; L],
    right: impl Fn(usize) -> &'a [f32],
    range: Range<usize>,
    mut store: impl FnMut(usize, [f32; L]),
) {
    let mut at = range.start;
    // A tile's accumulators have to fit into the registers, with a row of operands beside them.
    if S::REGISTER_COUNT >= 32 {
        while at + 6 <= range.end {
            let rows = [right(at), right(at + 1), right(at + 2), right(at + 3), right(at + 4), right(at + 5)];
            emit(tile(simd, left, rows), at, &mut store);
            at += 6;
        }
    }
    while at + 3 <= range.end {
        emit(tile(simd, left, [right(at), right(at + 1), right(at + 2)]), at, &mut store);
        at += 3;
    }
    while at < range.end {
        emit(tile(simd, left, [right(at)]), at, &mut store);
        at += 1;
    }
}

#[inline(always)]
fn emit<const L: usize, const R: usize>(
    products: [[f32; R]; L],
    first: usize,
    store: &mut impl FnMut(usize, [f32; L]),
) {
    for right in 0..R {
        store(first + right, products.map(|row| row[right]));
    }
}

/// Every left row times every right row.
#[inline(always)]
fn tile<S: Simd, const L: usize, const R: usize>(simd: S, left: [&[f32]; L], right: [&[f32]; R]) -> [[f32; R]; L] {
    let (whole, rest) = S::as_simd_f32s(left[0]);
    let (vectors, rest) = (whole.len(), rest.len());
    let mut left_vectors: [&[S::f32s]; L] = [&[]; L];
    let mut right_vectors: [&[S::f32s]; R] = [&[]; R];
    let mut left_rest = [simd.splat_f32s(0.0); L];
    let mut right_rest = [simd.splat_f32s(0.0); R];
    for l in 0..L {
        let (whole, rest) = S::as_simd_f32s(left[l]);
        left_vectors[l] = &whole[..vectors];
        left_rest[l] = simd.partial_load_f32s(rest);
    }
    for r in 0..R {
        let (whole, rest) = S::as_simd_f32s(right[r]);
        right_vectors[r] = &whole[..vectors];
        right_rest[r] = simd.partial_load_f32s(rest);
    }

    let mut sums = [[simd.splat_f32s(0.0); R]; L];
    for at in 0..vectors {
        let mut operands = [simd.splat_f32s(0.0); R];
        for r in 0..R {
            operands[r] = right_vectors[r][at];
        }
        for l in 0..L {
            let operand = left_vectors[l][at];
            for r in 0..R {
                sums[l][r] = simd.mul_add_e_f32s(operand, operands[r], sums[l][r]);
            }
        }
    }
    let mut products = [[0.0; R]; L];
    for l in 0..L {
        for r in 0..R {
            if rest > 0 {
                sums[l][r] = simd.mul_add_e_f32s(left_rest[l], right_rest[r], sums[l][r]);
            }
            products[l][r] = simd.reduce_sum_f32s(sums[l][r]);
        }
    }
    products
}
