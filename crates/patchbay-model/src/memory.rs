//! Keys and values that outlive the pass which computes them.

use candle_core::{Result, Tensor};

/// Keys `[rows, K, d]`, as they enter the scores, and values `[rows, K, value dim]`, by the number of their source.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A source's keys.
    pub keys: Vec<Tensor>,
    /// A source's values.
    pub values: Vec<Tensor>,
}

impl Sources {
    /// One source: a running pass.
    pub fn of_pass(keys: Tensor, values: Tensor) -> Self {
        Self { keys: vec![keys], values: vec![values] }
    }
}

/// Keeps the keys and values of a pass for later ones, and gives those of earlier ones.
pub trait KeyMemory {
    /// Takes in what a pass computed at a layer: keys `[T, K, d]` and values `[T, K, value dim]` of its packed rows. Gives
    /// the sources that the segments' spans name, of which these are the first.
    ///
    /// # Errors
    /// candle's, where memory runs out.
    fn exchange(&mut self, layer: usize, keys: Tensor, values: Tensor) -> Result<Sources>;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl KeyMemory for NoMemory {
    fn exchange(&mut self, _: usize, keys: Tensor, values: Tensor) -> Result<Sources> {
        Ok(Sources::of_pass(keys, values))
    }
}
