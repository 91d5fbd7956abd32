//! Rows laid side by side, so that what is at the same place in each is neighbours.

/// Entries of a row that are read at once.
const RUN: usize = 8;

/// `to[i][r] = rows[r * to.len() + i]`: R rows of `to.len()` numbers, one after the other, side by side.
#[inline(always)]
pub(crate) fn interleave<const R: usize>(rows: &[f32], to: &mut [[f32; R]]) {
    let length = to.len();
    let mut sides: [&[f32]; R] = [&[]; R];
    for (side, row) in sides.iter_mut().zip(rows.chunks_exact(length.max(1))) {
        *side = row;
    }
    let (runs, rest) = to.as_chunks_mut::<RUN>();
    for (number, run) in runs.iter_mut().enumerate() {
        for (r, side) in sides.iter().enumerate() {
            for (place, x) in run.iter_mut().zip(&side[RUN * number..RUN * (number + 1)]) {
                place[r] = *x;
            }
        }
    }
    let done = length - rest.len();
    for (i, place) in rest.iter_mut().enumerate() {
        *place = std::array::from_fn(|r| sides[r][done + i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_lie_side_by_side() {
        for length in [0, 1, 7, 8, 9, 20] {
            let rows: Vec<f32> = (0..3 * length).map(|x| x as f32).collect();
            let mut to = vec![[0.0; 3]; length];
            interleave(&rows, &mut to);
            for (i, place) in to.iter().enumerate() {
                assert_eq!(*place, [0, 1, 2].map(|r| rows[r * length + i]));
            }
        }
    }
}
