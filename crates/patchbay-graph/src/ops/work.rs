//! What operations cost.

use super::{Given, linear};
use crate::shape::Shape;

/// How the price of an operation follows from its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Nothing is computed.
    View,
    /// So many operations for each element of the output.
    Output(f64),
    /// So many operations for each element of the first argument.
    Input(f64),
    /// n log n operations for the n elements along `dim`, for each element of the first argument.
    Sort,
    /// Two operations for each multiply-add of a product.
    Product,
}

impl Work {
    /// Floating-point operations.
    pub(super) fn of(self, given: &Given<'_>, out: &Shape) -> f64 {
        let elements = |shape: &Shape| shape.elements().unwrap_or(usize::MAX) as f64;
        let first = given.args.first().map(|arg| arg.shape);
        match self {
            Self::View => 0.0,
            Self::Output(each) => each * elements(out),
            Self::Input(each) => each * first.map_or(0.0, elements),
            Self::Sort => {
                let axis = first.and_then(|shape| given.attrs.axis_or("dim", shape, -1).ok().flatten());
                let along = first.zip(axis).map_or(1, |(shape, axis)| shape.dims[axis]);
                first.map_or(0.0, elements) * (along.max(2) as f64).log2()
            }
            Self::Product => linear::product(given).map_or(0.0, |product| product.flops()),
        }
    }
}
