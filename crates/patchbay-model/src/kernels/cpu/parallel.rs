//! Sharing work between the machine's cores.

use std::sync::{Mutex, PoisonError};

use super::crew::crew;

/// Elements of light work (a norm, an activation) that are worth a job of their own.
const LIGHT_JOB: usize = 1 << 14;

/// Does all jobs, on the calling thread and as many of the crew's as there is work for, each taking the next job when it is done
/// with one. Whoever calls does not sleep while there is work, and a core that is busy elsewhere delays nobody.
pub(super) fn share<J: Send>(jobs: Vec<J>, work: impl Fn(J) + Sync) {
    let helpers = jobs.len().saturating_sub(1);
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    crew().work(helpers, &|| {
        while let Some(job) = next() {
            work(job);
        }
    });
}

/// Rows of this width in a job of light work.
pub(super) fn rows_per_job(width: usize) -> usize {
    LIGHT_JOB.div_ceil(width.max(1))
}

/// Parts for every core: so many that those who are done first wait for one of a sixteenth of their share at most, and not so many
/// that rows are taken up again and again.
const PARTS: usize = 16;

/// How to split `length` items in equal parts, some for every core, each a multiple of `unit` but for the last.
pub(super) fn part(length: usize, unit: usize) -> usize {
    let parts = PARTS * crew().threads();
    length.div_ceil(parts).next_multiple_of(unit).max(unit)
}
