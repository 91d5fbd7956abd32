//! The executor: plans in, tensors out.
//!
//! An [`Engine`] owns one model and one worker thread. A [`Job`] is a checked plan with its token ids and stored tensors; the
//! worker takes those whose turn it is ([`schedule`]) and walks the layers once for the next pass of each (`run`, `walk`). What is computed
//! follows from the plans ([`patchbay_graph::wave`]): tokens that nobody needs are not, and what requests have in common is
//! once. At each site that a plan names its track carries out the plan's steps (`visit`, `track`): reads gather blocks out of
//! the packed value, writes scatter them into it (`part`), and operations run as soon as their arguments are known (`values`,
//! `ops`).
mod backward;
pub mod engine;
mod job;
mod kept;
pub mod memory;
mod module;
mod ops;
mod part;
mod prefixes;
mod ragged;
mod run;
pub mod schedule;
pub mod steps;
mod ticket;
mod tokens;
mod track;
mod values;
mod visit;
mod walk;

pub use engine::{Engine, EngineError, EngineSettings};
pub use job::{Answer, Cancel, History, Job, Order, Outcome, Receipt, Times, TokenScore, Usage};
pub use memory::{Held, Memory};
pub use prefixes::Prefixes;
pub use schedule::{Claim, Price};
pub use steps::Steps;
pub use tokens::likeliest;
