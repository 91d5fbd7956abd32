//! Text generation under intervention.
//!
//! A generation is a series of jobs of the executor: one over the prompt, and one over each new token, with the keys of the tokens
//! before kept by row ([`Run`]). After each of them a [`Sampler`] takes the next token of every row from its logits, a
//! [`TextStream`] turns tokens into text and finds what ends it, a [`Constraint`] says which tokens may come, and a [`Collector`] joins what the graph saves along the axis of
//! tokens. What comes of it is told as [`Event`]s while it runs.
mod collect;
mod constraint;
mod event;
mod join;
mod planner;
mod receipts;
mod run;
mod sampler;
mod settings;
mod text;

pub use collect::{Collector, Kept, Named};
pub use constraint::{Allowed, Constraint, Form, Vocabulary, spaced};
pub use event::{Event, Finish, Generated, NewToken, Output, Scored, Sequence};
pub use planner::{Ground, Planner, history_bytes};
pub use run::{Begin, Beginning, Run, Tensors};
pub use sampler::Sampler;
pub use settings::{Sampling, Settings, Stop};
pub use text::TextStream;
