//! What is told of a generation.

use std::sync::Arc;

use patchbay_engine::{Answer, EngineError, Held, History, Receipt, Usage};

use crate::collect::Collector;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A row has one more token.
    Token(NewToken),
    /// What the graph saved at a step, where that is told.
    Saved {
        /// The step.
        step: usize,
        /// The results, by name.
        results: Vec<(String, Answer)>,
    },
    /// All rows are done.
    Done(Box<Generated>),
    /// It came to nothing.
    Failed(EngineError),
}

/// A token of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    /// The row; samples of one row of the input are side by side.
    pub row: usize,
    /// Its id.
    pub id: u32,
    /// The text that it adds for sure: what may be the beginning of a text that ends the row is held back, and so are parts of
    /// characters.
    pub text: String,
    /// How likely it was, where that is told.
    pub scored: Option<(Scored, Vec<Scored>)>,
    /// Why the row ends with it, if it does.
    pub finish: Option<Finish>,
}

/// A token and the logarithm of its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of the softmax over the model's logits, before they are changed for sampling.
    pub logprob: f64,
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A token or a text ended it.
    Stop,
    /// It has all its tokens.
    Length,
}

impl Finish {
    /// The protocol's name, which is OpenAI's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What came of a generation.
#[derive(Debug)]
pub struct Generated {
    /// One a row.
    pub outputs: Vec<Output>,
    /// What the graph saved; it is joined by whoever takes it, not by the executor.
    pub saved: Collector,
    /// One line for every write, over all steps.
    pub receipts: Vec<Receipt>,
    /// What it took.
    pub usage: Usage,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// The memory of the results.
    pub held: Arc<Held>,
    /// What the rows have become, one each.
    pub sequences: Vec<Sequence>,
    /// The memory of their keys.
    pub keys_held: Option<Held>,
}

/// What a row has become.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// All its tokens.
    pub ids: Vec<u32>,
    /// Their keys, less those of the last token, which was not computed.
    pub history: History,
    /// Whether something was written while these were made.
    pub written: bool,
}

/// The new tokens of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Their ids, with the one that ended it.
    pub ids: Vec<u32>,
    /// Their text, without special tokens and without the text that ended it; none where the model has no tokenizer.
    pub text: Option<String>,
    /// Why it ended.
    pub finish: Finish,
    /// How likely each was, where that is told.
    pub scored: Vec<(Scored, Vec<Scored>)>,
}
