//! Requests that run without anybody waiting for them: jobs.
//!
//! A request with `"async": true` is answered once it was checked and let in, so that what is wrong with it is said at once, and
//! goes on by itself. What comes of it is kept out of memory for an hour after its end, for as often as it is asked for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::blocking::blocking;
use crate::caller::Caller;
use crate::progress::{Parts, Progress};
use crate::wire::job::JobBody;
use crate::wire::trace::TraceAnswer;
use crate::{Failure, Service};

/// Jobs that a caller may have; the oldest that has ended makes room for another.
const MOST: usize = 256;
/// How long a result is kept.
const KEEP: Duration = Duration::from_secs(3600);

/// Everybody's jobs.
#[derive(Debug, Default)]
pub struct JobStore(Mutex<Jobs>);

/// By their owner, in the order in which they came.
type Jobs = BTreeMap<(Arc<str>, u64), Arc<Job>>;

/// A request that runs by itself.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    kind: String,
    created: SystemTime,
    parts: watch::Receiver<Option<Parts>>,
    outcome: watch::Sender<Outcome>,
}

/// What came of a job.
#[derive(Clone, Debug)]
enum Outcome {
    Running,
    Ended { at: (Instant, SystemTime), answer: Result<Arc<TraceAnswer>, Failure> },
    Cancelled,
}

/// Stops a job that was not let in when its caller goes away.
struct Waiting<'a>(Option<(AbortHandle, &'a JobStore, &'a Arc<Job>)>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((task, jobs, job)) = &self.0 {
            task.abort();
            jobs.jobs().retain(|_, other| !Arc::ptr_eq(other, job));
        }
    }
}

impl Job {
    /// How it is told of.
    pub(crate) fn body(&self) -> JobBody {
        let Parts { done, of } = self.parts.borrow().unwrap_or_default();
        let outcome = self.outcome.borrow();
        let (status, ended, error) = match &*outcome {
            Outcome::Running => ("running", None, None),
            Outcome::Cancelled => ("cancelled", None, None),
            Outcome::Ended { at, answer: Ok(_) } => ("done", Some(*at), None),
            Outcome::Ended { at, answer: Err(failure) } => ("failed", Some(*at), Some(failure.to_problem())),
        };
        let left = |(at, _): (Instant, SystemTime)| (at + KEEP).saturating_duration_since(Instant::now()).as_secs();
        JobBody {
            id: self.id.clone(),
            kind: self.kind.clone(),
            status,
            done: if status == "done" { of } else { done },
            of,
            created: seconds(self.created),
            ended: ended.map(|(_, at)| seconds(at)),
            expires_in: ended.map(left),
            error,
        }
    }

    /// What came of it.
    ///
    /// # Errors
    /// What it failed with; it has not ended.
    pub(crate) fn answer(&self) -> Result<Arc<TraceAnswer>, Failure> {
        match &*self.outcome.borrow() {
            Outcome::Ended { answer, .. } => answer.clone(),
            Outcome::Running => {
                let Parts { done, of } = self.parts.borrow().unwrap_or_default();
                let failure = Failure::new(409, "not_done", format!("{done} of {of} parts of this job have run"));
                let hint = format!("GET /v1/jobs/{}/events tells when it is done", self.id);
                Err(failure.hint(hint).retry_after(1))
            }
            Outcome::Cancelled => Err(unknown(&self.id)),
        }
    }

    /// Waits until there is more to tell of it; nothing after its end.
    pub(crate) async fn changed(&self, seen: &JobBody) -> Option<JobBody> {
        let (mut parts, mut outcome) = (self.parts.clone(), self.outcome.subscribe());
        loop {
            let body = self.body();
            if (body.status, body.done, body.of) != (seen.status, seen.done, seen.of) {
                return Some(body);
            }
            if body.status != "running" {
                return None;
            }
            // the sender of parts is gone a moment before the outcome is there
            tokio::select! {
                changed = parts.changed() => if changed.is_err() && outcome.changed().await.is_err() { return None },
                changed = outcome.changed() => if changed.is_err() { return None },
            }
        }
    }

    fn ended(&self) -> Option<Instant> {
        match &*self.outcome.borrow() {
            Outcome::Ended { at, .. } => Some(at.0),
            _ => None,
        }
    }

    fn bytes(&self) -> u64 {
        match &*self.outcome.borrow() {
            Outcome::Ended { answer: Ok(answer), .. } => answer.byte_len(),
            _ => 0,
        }
    }
}

impl JobStore {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, job| job.ended().is_none_or(|at| at.elapsed() < KEEP));
        jobs
    }

    /// The caller's jobs, oldest first.
    pub fn list(&self, caller: &Caller) -> Vec<JobBody> {
        let jobs = self.jobs();
        of(&jobs, caller).map(|job| job.body()).collect()
    }

    /// One of the caller's jobs.
    pub(crate) fn find(&self, caller: &Caller, id: &str) -> Result<Arc<Job>, Failure> {
        let jobs = self.jobs();
        of(&jobs, caller).find(|job| job.id == id).cloned().ok_or_else(|| unknown(id))
    }

    /// Stops a job, and forgets what came of it.
    ///
    /// # Errors
    /// Status 404 where the caller has no such job.
    pub fn remove(&self, caller: &Caller, id: &str) -> Result<(), Failure> {
        let job = self.find(caller, id)?;
        self.jobs().retain(|_, other| !Arc::ptr_eq(other, &job));
        job.outcome.send_replace(Outcome::Cancelled);
        Ok(())
    }

    /// Takes in a job, for which those that ended first make room.
    fn add(&self, caller: &Caller, job: &Arc<Job>) -> Result<(), Failure> {
        let mut jobs = self.jobs();
        if of(&jobs, caller).count() >= MOST && !forget_oldest(&mut jobs, caller, job) {
            let failure = Failure::new(429, "too_many_jobs", format!("{MOST} jobs of yours are running"));
            return Err(failure.hint("wait for one, or DELETE /v1/jobs/{id}").retry_after(5));
        }
        let number = jobs.keys().map(|(_, number)| number + 1).max().unwrap_or(0);
        jobs.insert((Arc::clone(caller.owner()), number), Arc::clone(job));
        Ok(())
    }

    /// Forgets the results of jobs that ended first, as long as all together take more than so many bytes.
    fn fit(&self, caller: &Caller, job: &Arc<Job>, bytes: u64) {
        let mut jobs = self.jobs();
        while of(&jobs, caller).map(|job| job.bytes()).sum::<u64>() > bytes && forget_oldest(&mut jobs, caller, job) {}
    }
}

fn of<'a>(jobs: &'a Jobs, caller: &Caller) -> impl Iterator<Item = &'a Arc<Job>> {
    jobs.iter().filter(|((owner, _), _)| owner == caller.owner()).map(|(_, job)| job)
}

/// Forgets that of the caller's jobs that ended first, but not `but`. Whether there was one.
fn forget_oldest(jobs: &mut Jobs, caller: &Caller, but: &Arc<Job>) -> bool {
    let own = jobs.iter().filter(|((owner, _), job)| owner == caller.owner() && !Arc::ptr_eq(job, but));
    let ended = own.filter_map(|(key, job)| Some((job.ended()?, key.clone())));
    ended.min().is_some_and(|(_, key)| jobs.remove(&key).is_some())
}

fn unknown(id: &str) -> Failure {
    Failure::new(404, "unknown_job", format!("there is no job `{id}`"))
        .hint("what comes of a job is kept for an hour; GET /v1/jobs lists yours")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Service {
    /// The callers' jobs.
    pub fn jobs(&self) -> &JobStore {
        &self.jobs
    }

    /// Lets a request run by itself. Returns once it was checked and let in.
    ///
    /// # Errors
    /// It was not: whatever the request is refused with. The caller has too many jobs.
    pub(crate) async fn start<F>(
        self: &Arc<Self>,
        kind: &str,
        caller: &Caller,
        run: impl FnOnce(Progress) -> F,
    ) -> Result<Arc<Job>, Failure>
    where
        F: Future<Output = Result<TraceAnswer, Failure>> + Send + 'static,
    {
        let (progress, mut parts) = Progress::new();
        let (outcome, mut outcomes) = watch::channel(Outcome::Running);
        let (id, created) = (format!("job-{}", Uuid::new_v4().simple()), SystemTime::now());
        let job = Arc::new(Job { id, kind: kind.to_owned(), created, parts: parts.clone(), outcome });
        self.jobs.add(caller, &job)?;
        let (service, owner, running, work) = (Arc::clone(self), caller.clone(), Arc::clone(&job), run(progress));
        let mut cancelled = job.outcome.subscribe();
        let task = tokio::spawn(async move {
            let ended = async {
                let answer = work.await?;
                blocking(move || Ok(answer.at_rest()?)).await
            };
            let answer = tokio::select! {
                answer = ended => answer.map(Arc::new),
                _ = cancelled.wait_for(|outcome| matches!(outcome, Outcome::Cancelled)) => return,
            };
            let at = (Instant::now(), SystemTime::now());
            running.outcome.send_if_modified(|outcome| match outcome {
                Outcome::Running => {
                    *outcome = Outcome::Ended { at, answer };
                    true
                }
                _ => false,
            });
            service.jobs.fit(&owner, &running, service.settings.store.max_total_bytes);
            // by itself, as what runs here holds the job
            tokio::spawn(end_job(Arc::downgrade(&service)));
        });
        let mut waiting = Waiting(Some((task.abort_handle(), &self.jobs, &job)));
        if parts.wait_for(Option::is_some).await.is_err() {
            // what is refused ends without having been let in
            drop(outcomes.wait_for(|outcome| !matches!(outcome, Outcome::Running)).await);
            job.answer()?;
        }
        waiting.0 = None;
        drop(waiting);
        Ok(job)
    }
}

/// Forgets a job when its time is over.
async fn end_job(service: Weak<Service>) {
    tokio::time::sleep(KEEP).await;
    // what is over is forgotten when the jobs are looked at
    if let Some(service) = service.upgrade() {
        drop(service.jobs.jobs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    fn failure() -> Failure {
        Failure::new(422, "bad_name", "x")
    }

    #[tokio::test]
    async fn what_is_refused_is_no_job() {
        let service = Service::new(Settings::default());
        let refused = service.start("trace", &Caller::local(), |_| async { Err(failure()) }).await;
        assert_eq!(refused.unwrap_err().code, "bad_name");
        assert!(service.jobs().list(&Caller::local()).is_empty());
    }

    #[tokio::test]
    async fn a_job_tells_how_far_it_is_and_fails_or_is_cancelled() {
        let service = Service::new(Settings::default());
        let caller = Caller::local();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let run = |progress: Progress| async move {
            progress.begun(3);
            progress.more(1);
            let _ = gone.await;
            Err(failure())
        };
        let job = service.start("trace", &caller, run).await.unwrap();
        let body = job.body();
        assert_eq!((body.status, body.done, body.of), ("running", 1, 3));
        assert_eq!(job.answer().unwrap_err().status, 409);
        go.send(()).unwrap();
        let ended = job.changed(&body).await.unwrap();
        assert_eq!((ended.status, ended.error.as_ref().unwrap().code.as_str()), ("failed", "bad_name"));
        assert_eq!(job.changed(&ended).await, None);
        assert_eq!(job.answer().unwrap_err().status, 422);

        let run = |progress: Progress| async move {
            progress.begun(1);
            std::future::pending().await
        };
        let job = service.start("trace", &caller, run).await.unwrap();
        let body = job.body();
        service.jobs().remove(&caller, &body.id).unwrap();
        assert_eq!(job.changed(&body).await.unwrap().status, "cancelled");
        assert_eq!(service.jobs().remove(&caller, &body.id).unwrap_err().status, 404);
    }

    #[tokio::test]
    async fn nothing_holds_a_job_that_is_forgotten() {
        let service = Service::new(Settings::default());
        let caller = Caller::local();
        let run = |progress: Progress| async move {
            progress.begun(1);
            Err(failure())
        };
        let job = service.start("trace", &caller, run).await.unwrap();
        job.changed(&job.body()).await;
        let run = |progress: Progress| async move {
            progress.begun(1);
            std::future::pending().await
        };
        let other = service.start("trace", &caller, run).await.unwrap();
        assert!(forget_oldest(&mut service.jobs().jobs(), &caller, &other));
        let left = Arc::downgrade(&job);
        drop(job);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(left.upgrade().is_none());
    }

    #[tokio::test]
    async fn the_oldest_that_ended_make_room_and_running_ones_do_not() {
        let service = Service::new(Settings::default());
        let caller = Caller::local();
        for number in 0..=MOST {
            let run = |progress: Progress| async move {
                progress.begun(1);
                match number {
                    0 => Err(failure()),
                    _ => std::future::pending().await,
                }
            };
            let job = service.start("trace", &caller, run).await.unwrap();
            if number == 0 {
                job.changed(&job.body()).await;
            }
        }
        let full = service.start("trace", &caller, |_| async { Err(failure()) }).await.unwrap_err();
        assert_eq!((full.status, full.code.as_str()), (429, "too_many_jobs"));
        assert_eq!(service.jobs().list(&caller).len(), MOST);
    }
}
