//! How much work a wave may be, so that nobody who arrives while it runs waits long.

use std::time::Duration;

/// How long a wave of short requests should last at most.
const TARGET: Duration = Duration::from_millis(200);

/// How many times as much a wave of long requests may be: others do not wait for its end.
const LONG: f64 = 4.5;

/// Work of the first wave, in floating-point operations.
const FIRST: f64 = 2e10;

/// A wave may always last so many times what it takes whatever its work: where even one token takes long, because all weights
/// have to be read for it, more of them take hardly longer.
const SPREAD: f64 = 2.0;

/// A wave of at least this part of the longest time tells how long one would take that is as large as may be, at most: larger
/// waves are more efficient.
const TELLING: f64 = 8.0;

/// How much of each wave goes into what is known.
const LEARN: f64 = 0.2;

/// What was learnt from the waves that ran.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    work: f64,
    /// Seconds that a wave takes whatever its work.
    fixed: f64,
    /// Work and seconds of the last wave of another size.
    other: Option<(f64, f64)>,
    /// Operations a second.
    rate: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { work: FIRST, fixed: 0.0, other: None, rate: FIRST / TARGET.as_secs_f64() }
    }
}

impl Pace {
    /// Operations that the next wave of short requests may be.
    pub fn work(&self) -> f64 {
        self.work
    }

    /// Operations that the next wave of long requests may be.
    pub fn long(&self) -> f64 {
        LONG * self.work
    }

    /// Seconds that so many operations take, about.
    pub fn seconds(&self, work: f64) -> f64 {
        work / self.rate
    }

    /// Learns from a wave of so much work; whether it was as `full` as it might be, and `long`.
    pub fn learn(&mut self, work: f64, took: Duration, full: bool, long: bool) {
        let took = took.as_secs_f64().max(1e-6);
        if work > 0.0 {
            self.rate += (work / took - self.rate) * LEARN;
        }
        self.learn_fixed(work, took);
        let times = if long { LONG } else { 1.0 };
        let target = (times * TARGET.as_secs_f64()).max(SPREAD * self.fixed);
        // a wave that was not full says that more would be too much, but not that it would not
        if full || took > target && work <= times * self.work {
            self.work *= (target / took).clamp(0.5, 2.0);
        } else if took > target / TELLING {
            // of what it took, at least a part was for its work
            let fixed = self.fixed.min(took * (1.0 - 1.0 / TELLING)).min(target / 2.0);
            let doubtless = SPREAD * work * (target - fixed) / (took - fixed) / times;
            self.work = self.work.min(doubtless.max(self.work / 2.0));
        }
    }

    /// Two waves of different size say what a wave of no size takes.
    fn learn_fixed(&mut self, work: f64, took: f64) {
        let (other_work, other_took) = *self.other.get_or_insert((work, took));
        if work.max(other_work) < 1.2 * work.min(other_work).max(f64::MIN_POSITIVE) {
            return;
        }
        let slope = (took - other_took) / (work - other_work);
        let fixed = (took - slope * work).clamp(0.0, took.min(other_took));
        self.fixed += (fixed - self.fixed) * LEARN;
        self.other = Some((work, took));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waves of a machine that takes `fixed` seconds and one more for every `rate` operations, with more than enough to do.
    fn settled(fixed: f64, rate: f64) -> f64 {
        let (mut pace, mut took) = (Pace::default(), 0.0);
        for _ in 0..100 {
            took = fixed + pace.work() / rate;
            pace.learn(pace.work(), Duration::from_secs_f64(took), true, false);
        }
        took
    }

    #[test]
    fn waves_of_fast_and_slow_machines_last_equally_long() {
        for rate in [1e8, 1e10, 1e12, 1e15] {
            let took = settled(0.001, rate);
            assert!((0.19..0.21).contains(&took), "{took} s at {rate}");
        }
    }

    #[test]
    fn where_every_wave_is_slow_they_still_share() {
        let (mut pace, rate) = (Pace::default(), 1e11);
        for round in 0..200 {
            // now and then a wave of hardly any work
            let work = if round % 10 == 0 { 1e8 } else { pace.work() };
            pace.learn(work, Duration::from_secs_f64(1.0 + work / rate), work == pace.work(), false);
        }
        assert!((0.5e11..2e11).contains(&pace.work()), "{}", pace.work());
    }

    #[test]
    fn long_waves_are_so_many_times_as_long() {
        let (mut pace, mut took) = (Pace::default(), 0.0);
        for _ in 0..100 {
            took = pace.long() / 1e11;
            pace.learn(pace.long(), Duration::from_secs_f64(took), true, true);
        }
        assert!((0.85..0.95).contains(&took), "{took} s");
    }

    #[test]
    fn waves_of_some_size_say_what_is_too_large_for_certain() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.learn(1e8, Duration::from_millis(50), false, false);
        }
        // 0.2 s for four times as much, were it as slow
        let most = SPREAD * 4e8;
        assert!((pace.work() - most).abs() < 1.0, "{}", pace.work());
    }

    #[test]
    fn a_wave_that_is_hardly_more_than_reading_the_weights_says_little() {
        let (mut pace, seconds) = (Pace::default(), |work: f64| 0.05 + work / 1e11);
        for _ in 0..50 {
            for work in [1e9, pace.work()] {
                pace.learn(work, Duration::from_secs_f64(seconds(work)), work == pace.work(), false);
            }
        }
        let left = pace.work();
        assert!((1.4e10..1.6e10).contains(&left), "{left}");
        pace.learn(1e9, Duration::from_secs_f64(seconds(1e9)), false, false);
        assert!((pace.work() - left).abs() < 1.0, "{} after {left}", pace.work());
    }

    #[test]
    fn small_waves_say_nothing_of_large_ones() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.learn(1e6, Duration::from_millis(1), false, false);
        }
        assert_eq!(pace.work(), FIRST);
    }
}
