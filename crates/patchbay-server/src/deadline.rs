//! How long a request may take.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::failure::TIMED_OUT;

/// How long requests may take, from when they came to when their answer begins. No end where nothing stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Those that do not say.
    pub default: Option<Duration>,
    /// The most that one may ask for.
    pub most: Option<Duration>,
}

/// When one request has to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// The moment; none where it has no end.
    pub(crate) at: Option<Instant>,
    allowed: Duration,
    most: Option<Duration>,
}

impl Timeouts {
    /// The deadline of a request that came then and asks for so many milliseconds.
    ///
    /// # Errors
    /// Status 413 where it asks for more than it may.
    pub(crate) fn deadline(self, arrived: Instant, asked: Option<u64>) -> Result<Deadline, Failure> {
        let asked = asked.map(Duration::from_millis);
        if let (Some(asked), Some(most)) = (asked, self.most)
            && asked > most
        {
            let detail = format!("`timeout_ms` is {}, the limit is {}", asked.as_millis(), most.as_millis());
            let hint = "ask for less, or send it in parts; the server's setting is `max_timeout`";
            return Err(Failure::new(413, "too_large", detail).hint(hint).at("/timeout_ms"));
        }
        let allowed = asked.or(self.default);
        // a time beyond what a clock can show is no end
        let at = allowed.and_then(|allowed| arrived.checked_add(allowed));
        Ok(Deadline { at, allowed: allowed.unwrap_or_default(), most: self.most })
    }
}

impl Deadline {
    /// Does some work, and drops it when its time is over.
    ///
    /// # Errors
    /// Those of the work, and status 504.
    pub(crate) async fn bound<T>(self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(at) = self.at else { return work.await };
        match tokio::time::timeout_at(at.into(), work).await {
            // the worker saw it first
            Ok(Err(failure)) if failure.code == TIMED_OUT => Err(self.over()),
            Ok(done) => done,
            Err(_) => Err(self.over()),
        }
    }

    fn over(self) -> Failure {
        let detail = format!("the request was not done within {} ms, and was stopped", self.allowed.as_millis());
        let most = self.most.map_or(String::new(), |most| format!(" (up to {} here)", most.as_millis()));
        Failure::new(504, TIMED_OUT, detail)
            .hint(format!("give it longer with `timeout_ms`{most}, or send it in parts, with fewer rows or cells"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(default: u64, most: u64) -> Timeouts {
        Timeouts { default: Some(Duration::from_secs(default)), most: Some(Duration::from_secs(most)) }
    }

    /// Waits for so long, by a clock that has nothing else to do.
    async fn wait(deadline: Deadline, time: Duration) -> Result<(), Failure> {
        let work = async {
            tokio::time::sleep(time).await;
            Ok(())
        };
        deadline.bound(work).await
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_cut_off_at_its_deadline_and_not_before() {
        let now = || tokio::time::Instant::now().into_std();
        for (asked, within) in [(None, 10_000), (Some(300), 300), (Some(50_000), 50_000)] {
            let deadline = || seconds(10, 60).deadline(now(), asked).unwrap();
            wait(deadline(), Duration::from_millis(within - 2)).await.unwrap();
            let begun = now();
            let failure = wait(deadline(), Duration::from_millis(within + 2)).await.unwrap_err();
            assert_eq!((failure.status, failure.code.as_str()), (504, "timed_out"));
            assert!(failure.detail.contains(&format!("{within} ms")), "{failure}");
            assert!(failure.hint.as_ref().unwrap().contains("`timeout_ms` (up to 60000 here)"), "{failure}");
            assert!((now() - begun).as_millis().abs_diff(within.into()) <= 1);
        }
        wait(Timeouts::default().deadline(now(), None).unwrap(), Duration::from_secs(1 << 30)).await.unwrap();
        wait(Timeouts::default().deadline(now(), Some(u64::MAX)).unwrap(), Duration::from_secs(1 << 30)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_worker_says_of_the_time_is_said_alike() {
        let deadline = seconds(10, 60).deadline(Instant::now(), None).unwrap();
        let late = async { Err::<(), _>(Failure::from(patchbay_engine::EngineError::TimedOut)) };
        assert_eq!(deadline.bound(late).await.unwrap_err(), deadline.over());
        let other = async { Err::<(), _>(Failure::new(422, "bad_name", "x")) };
        assert_eq!(deadline.bound(other).await.unwrap_err().code, "bad_name");
    }

    #[test]
    fn nobody_has_more_time_than_the_most() {
        let ask = |asked| seconds(10, 60).deadline(Instant::now(), Some(asked));
        assert!(ask(60_000).is_ok());
        let failure = ask(60_001).unwrap_err();
        assert_eq!((failure.status, failure.pointer.as_deref()), (413, Some("/timeout_ms")));
        assert!(failure.detail.contains("60001") && failure.detail.contains("60000"), "{failure}");
    }
}
