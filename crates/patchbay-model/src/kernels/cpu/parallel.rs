//! Sharing work between the machine's cores.

use std::sync::{Mutex, PoisonError};

/// Elements of light work (a norm, an activation) that are worth a job of their own.
const LIGHT_JOB: usize = 1 << 14;

/// Does all jobs, on the calling thread and as many of rayon's as are free, each taking the next job when it is done
/// with one. Whoever calls does not sleep while there is work, and a core that is busy elsewhere delays nobody.
pub(super) fn share<J: Send>(jobs: Vec<J>, work: impl Fn(J) + Sync) {
    let helpers = rayon::current_num_threads().min(jobs.len()).saturating_sub(1);
    if helpers == 0 {
        jobs.into_iter().for_each(work);
        return;
    }
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = || {
        while let Some(job) = next() {
            work(job);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| drain());
        }
        drain();
    });
}

/// Rows of this width in a job of light work.
pub(super) fn rows_per_job(width: usize) -> usize {
    LIGHT_JOB.div_ceil(width.max(1))
}

/// How to split `length` items in equal parts, a few for every core, each a multiple of `unit` but for the last.
pub(super) fn part(length: usize, unit: usize) -> usize {
    let parts = 4 * rayon::current_num_threads();
    length.div_ceil(parts).next_multiple_of(unit).max(unit)
}
