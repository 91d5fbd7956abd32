//! When the jobs of one request ran.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use patchbay_engine::Times;

/// When the jobs of one request ran. Those of one wave began together, and no two waves run at once.
#[derive(Default)]
pub(crate) struct WaveTimes {
    /// When each wave began, and when the last of its jobs was done.
    waves: BTreeMap<Instant, Instant>,
    arrived: Option<Instant>,
}

impl WaveTimes {
    /// Takes in those of a job.
    pub(crate) fn add(&mut self, Times { arrived, started, ended }: Times) {
        let end = self.waves.entry(started).or_insert(ended);
        *end = ended.max(*end);
        self.arrived = Some(self.arrived.map_or(arrived, |first| first.min(arrived)));
    }

    /// From the first job's arrival to the last one's end: those in which none of them ran, and the others.
    pub(crate) fn milliseconds(&self) -> (f64, f64) {
        let compute: Duration = self.waves.iter().map(|(started, ended)| *ended - *started).sum();
        let whole = self.arrived.zip(self.waves.values().max()).map_or(compute, |(first, last)| *last - first);
        (whole.saturating_sub(compute).as_secs_f64() * 1e3, compute.as_secs_f64() * 1e3)
    }
}
