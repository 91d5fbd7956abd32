//! Text that models write: what transformers writes, whatever is computed beside it, and the same as traces of the whole text.

mod again;
mod company;
mod greedy;
mod inputs;
mod prefixes;
mod problems;
mod saves;
mod sessions;
pub(crate) mod streams;
