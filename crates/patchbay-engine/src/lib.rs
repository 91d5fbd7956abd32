//! The executor: plans in, tensors out.
//!
//! An [`Engine`] owns one model and one worker thread. A [`Job`] is a checked plan with its token ids and stored tensors; the
//! worker packs the rows of all its inputs into one matrix without padding and walks the layers once a pass (`walk`). At each
//! site that the plan names, the visitor (`visit`) carries out the plan's steps: reads gather blocks out of the packed value,
//! writes scatter them into it (`part`), and operations run as soon as their arguments are known (`values`, `ops`).
mod backward;
pub mod engine;
pub mod job;
mod module;
mod ops;
mod part;
mod ragged;
mod run;
mod tokens;
mod values;
mod visit;
mod walk;

pub use engine::{Engine, EngineError, EngineSettings};
pub use job::{Answer, Cancel, Job, Outcome, Receipt, TokenScore, Usage};
