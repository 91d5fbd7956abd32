//! Blocks that were priced before.
//!
//! Most blocks of a model are alike, and in most of them nobody looks at anything, so that they take the same. A price is found
//! before every request; going through one block of each kind instead of all is most of what can be saved of it.

use std::cell::RefCell;

use super::decoder::{Decoder, NoTap, Through};
use super::meter::{F32, Taken, Tensor};

/// What blocks took in which nobody looked at anything.
#[derive(Default)]
pub(super) struct Priced(RefCell<Vec<(Block, Taken, u64)>>);

/// All that the price of such a block depends on.
#[derive(PartialEq, Eq)]
struct Block {
    /// The first that is like it.
    like: usize,
    plain: bool,
    /// Elements that go in, and whether their memory is let go on the way.
    input: (u64, bool),
    through: Through,
}

impl Priced {
    pub(super) fn block(&self, decoder: &Decoder<'_>, layer: usize, x: Tensor, through: &Through) -> Tensor {
        let (tree, meter) = (decoder.tree, decoder.meter());
        let first = tree.weights.first_alike(layer);
        let like = (first..layer)
            .find(|other| tree.weights.first_alike(*other) == first && tree.layers[*other] == tree.layers[layer]);
        let input = (x.elements, x.is_alone());
        let block =
            Block { like: like.unwrap_or(layer), plain: decoder.kernels.plain, input, through: through.clone() };
        let known = self.0.borrow().iter().find(|(known, ..)| *known == block).map(|(_, taken, out)| (*taken, *out));
        if let Some((taken, out)) = known {
            meter.take_again(taken);
            return meter.fresh(out, F32);
        }
        let (made, taken) = meter.taken(|| decoder.block_in_full(layer, x, through, &mut NoTap));
        self.0.borrow_mut().push((block, taken, made.elements));
        made
    }
}
