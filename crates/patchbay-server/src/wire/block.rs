//! Where a block lies in a whole.

/// The runs of elements that a block of the sizes `block` has together with a whole of the sizes `whole`, in which it begins `at`
/// these places: how long each is, and where each begins in the block and in the whole, in the block's order.
///
/// # Panics
/// Where the numbers of axes differ.
pub fn runs(block: &[usize], whole: &[usize], at: &[usize]) -> (usize, Vec<[usize; 2]>) {
    // from the last axis that is not whole, everything lies together
    let axis = (0..block.len()).rev().find(|axis| block[*axis] != whole[*axis]).unwrap_or(0);
    let len: usize = block[axis.min(block.len())..].iter().product();
    let outer: usize = block[..axis].iter().product();
    let start = |number: usize| {
        let (mut left, mut to) = (number, 0);
        let mut stride: usize = whole[axis..].iter().product();
        for outer in (0..axis).rev() {
            to += (left % block[outer] + at[outer]) * stride;
            left /= block[outer];
            stride *= whole[outer];
        }
        let inner: usize = whole.get(axis + 1..).map_or(1, |inner| inner.iter().product());
        [number * len, to + at.get(axis).map_or(0, |at| at * inner)]
    };
    (len, (0..if len == 0 { 0 } else { outer }).map(start).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The block's elements in the places that their indices say.
    fn placed(block: &[usize], whole: &[usize], at: &[usize]) -> Vec<usize> {
        let mut found = vec![0; whole.iter().product()];
        for number in 0..block.iter().product() {
            let (mut left, mut to, mut stride) = (number, 0, 1);
            for axis in (0..block.len()).rev() {
                to += (left % block[axis] + at[axis]) * stride;
                left /= block[axis];
                stride *= whole[axis];
            }
            found[to] = number + 1;
        }
        found
    }

    #[test]
    fn runs_put_every_element_in_its_place() {
        let cases: [(&[usize], &[usize], &[usize]); 9] = [
            (&[], &[], &[]),
            (&[4], &[4], &[0]),
            (&[2], &[5], &[3]),
            (&[2, 3], &[2, 3], &[0, 0]),
            (&[1, 3], &[4, 3], &[2, 0]),
            (&[2, 2], &[2, 3], &[0, 1]),
            (&[2, 2, 2, 3], &[2, 5, 4, 3], &[0, 3, 2, 0]),
            (&[2, 1, 2, 2], &[2, 3, 2, 4], &[0, 1, 0, 2]),
            (&[2, 0, 3], &[2, 4, 3], &[0, 4, 0]),
        ];
        for (block, whole, at) in cases {
            let (len, starts) = runs(block, whole, at);
            let mut found = vec![0; whole.iter().product()];
            for [from, to] in starts {
                (0..len).for_each(|i| found[to + i] = from + i + 1);
            }
            assert_eq!(found, placed(block, whole, at), "{block:?} in {whole:?} at {at:?}");
        }
        assert_eq!(runs(&[3, 4, 5], &[3, 4, 5], &[0; 3]), (60, vec![[0, 0]]));
    }
}
