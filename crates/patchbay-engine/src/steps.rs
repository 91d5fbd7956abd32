//! Jobs that follow one another.

use std::fmt::Debug;

use crate::engine::EngineError;
use crate::job::{Job, Outcome};

/// Makes each job of what came of the one before it, as generation does with tokens.
///
/// It runs on the executor's own thread, between two waves, so that all jobs of one wave have their followers in the next.
pub trait Steps: Send + Debug {
    /// The next job, if there is one. After an error there is none.
    fn next(&mut self, outcome: Result<Outcome, EngineError>) -> Option<Job>;

    /// Whether nobody waits for what comes of it any more.
    fn is_gone(&self) -> bool;
}
