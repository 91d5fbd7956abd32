//! The threads that share the kernels' work.
//!
//! A forward pass shares work some hundred times, most of it for less time than a sleeping thread takes to wake. So who has nothing
//! to do looks out for what comes next for a moment before it sleeps: a helper for the next piece of work, and whoever asked for
//! help for the end of it.

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread looks out before it sleeps: a few times as long as the pass goes on alone between two pieces of work, so that it
/// sleeps where there are none.
const LOOKOUT: Duration = Duration::from_micros(50);

/// One thread for each of the machine's cores but the one that asks.
static CREW: LazyLock<Crew> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(num_cpus::get_physical());
    Crew::of(cores.saturating_sub(1))
});

/// The process's crew.
pub(super) fn crew() -> &'static Crew {
    &CREW
}

/// Threads that help with one piece of work at a time.
pub(super) struct Crew {
    helpers: usize,
    /// Held by whom they help.
    asking: Mutex<()>,
    board: Arc<Board>,
}

/// Where work is put up.
#[derive(Default)]
struct Board {
    /// How often work was put up. It changes while the notice is locked, and is looked at without.
    turn: AtomicUsize,
    /// Helpers that are at work, in the same way.
    working: AtomicUsize,
    notice: Mutex<Notice>,
    put_up: Condvar,
    left: Condvar,
}

#[derive(Default)]
struct Notice {
    /// What there is to do, while it may be begun.
    work: Option<Work>,
    /// How many more helpers are asked for.
    wanted: usize,
    /// Helpers that sleep.
    sleeping: usize,
    /// What a helper's panic said.
    panic: Option<Box<dyn Any + Send>>,
}

/// Work that everybody who takes part in does until nothing is left of it.
type Work = &'static (dyn Fn() + Sync);

impl Crew {
    /// So many threads, or as many as the system lets there be.
    fn of(helpers: usize) -> Self {
        let board = Arc::new(Board::default());
        let start = |number: usize| {
            let board = Arc::clone(&board);
            thread::Builder::new().name(format!("kernels {number}")).spawn(move || board.help()).is_ok()
        };
        let helpers = (1..=helpers).take_while(|number| start(*number)).count();
        Self { helpers, asking: Mutex::new(()), board }
    }

    /// How many threads work at a time, the one that asks included.
    pub(super) fn threads(&self) -> usize {
        self.helpers + 1
    }

    /// Does work on this thread and at most so many helpers at once; comes back when all are done with it. Where the crew helps
    /// somebody else, this thread works alone.
    ///
    /// # Panics
    /// Where the work does, on any of the threads.
    pub(super) fn work(&self, helpers: usize, work: &(dyn Fn() + Sync)) {
        let helpers = helpers.min(self.helpers);
        if helpers == 0 {
            return work();
        }
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(TryLockError::Poisoned(asking)) => asking.into_inner(),
            Err(TryLockError::WouldBlock) => return work(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the lifetime is made longer than it is. Nobody but the helpers sees the work, and `Asked` is dropped, however
        // this function ends, only when it is not put up any more and no helper is at it.
        let lasting = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
        let asked = self.put_up(lasting, helpers);
        work();
        drop(asked);
        let panic = self.board.notice().panic.take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Puts work up, and wakes as many as those that are awake lack.
    fn put_up(&self, work: Work, helpers: usize) -> Asked<'_> {
        let mut notice = self.board.notice();
        (notice.work, notice.wanted, notice.panic) = (Some(work), helpers, None);
        self.board.turn.fetch_add(1, Ordering::Release);
        let awake = self.helpers - notice.sleeping;
        drop(notice);
        (awake..helpers).for_each(|_| self.board.put_up.notify_one());
        Asked(&self.board)
    }
}

/// Work that is put up. When this is dropped nobody is at it, and nobody will be.
struct Asked<'a>(&'a Board);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let board = self.0;
        board.notice().work = None;
        let done = || board.working.load(Ordering::Acquire) == 0;
        if !comes(done) {
            let notice = board.notice();
            drop(board.left.wait_while(notice, |_| !done()).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Board {
    fn notice(&self) -> MutexGuard<'_, Notice> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A helper's life.
    fn help(&self) {
        let mut seen = 0;
        loop {
            seen = self.next(seen);
            let Some(work) = self.begin() else { continue };
            let panic = catch_unwind(AssertUnwindSafe(work)).err();
            self.end(panic);
        }
    }

    /// Waits until another piece of work than the one seen last is put up.
    fn next(&self, seen: usize) -> usize {
        let turn = || self.turn.load(Ordering::Acquire);
        if !comes(|| turn() != seen) {
            let mut notice = self.notice();
            notice.sleeping += 1;
            let asleep = self.put_up.wait_while(notice, |_| turn() == seen);
            asleep.unwrap_or_else(PoisonError::into_inner).sleeping -= 1;
        }
        turn()
    }

    fn begin(&self) -> Option<Work> {
        let mut notice = self.notice();
        notice.wanted = notice.wanted.checked_sub(1)?;
        let work = notice.work?;
        self.working.fetch_add(1, Ordering::Relaxed);
        Some(work)
    }

    fn end(&self, panic: Option<Box<dyn Any + Send>>) {
        let mut notice = self.notice();
        if panic.is_some() {
            notice.panic = panic;
        }
        if self.working.fetch_sub(1, Ordering::Release) == 1 {
            self.left.notify_one();
        }
    }
}

/// Looks out for something for a moment; whether it came.
fn comes(what: impl Fn() -> bool) -> bool {
    let until = Instant::now() + LOOKOUT;
    loop {
        if what() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Barrier, mpsc};

    use super::*;

    /// Who works is counted, and waits for so many others.
    fn meet(crew: &Crew, helpers: usize, together: usize) -> usize {
        let (count, barrier) = (AtomicUsize::new(0), Barrier::new(together));
        crew.work(helpers, &|| {
            count.fetch_add(1, Ordering::Relaxed);
            barrier.wait();
        });
        count.into_inner()
    }

    #[test]
    fn as_many_work_as_are_asked_for() {
        let crew = Crew::of(3);
        for round in 0..200 {
            let helpers = round % 4;
            assert_eq!(meet(&crew, helpers, helpers + 1), helpers + 1);
            if round % 50 == 0 {
                // they sleep meanwhile
                thread::sleep(Duration::from_millis(5));
            }
        }
        assert_eq!(meet(&crew, 9, 4), 4, "there are no more");
        assert_eq!(meet(&Crew::of(0), 5, 1), 1);
    }

    #[test]
    fn nobody_is_at_the_work_when_it_is_over() {
        let crew = Crew::of(2);
        for _ in 0..2000 {
            let (over, late) = (AtomicBool::new(false), AtomicBool::new(false));
            crew.work(2, &|| late.store(over.load(Ordering::SeqCst), Ordering::SeqCst));
            over.store(true, Ordering::SeqCst);
            assert!(!late.into_inner());
        }
    }

    #[test]
    fn who_asks_while_others_are_helped_works_alone() {
        let crew = &Crew::of(1);
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let (begun, ends) = (Mutex::new(begun), Mutex::new(ends));
        thread::scope(|scope| {
            scope.spawn(|| {
                crew.work(1, &|| {
                    begun.lock().unwrap().send(()).unwrap();
                    let _ = ends.lock().unwrap().recv();
                });
            });
            has_begun.recv().unwrap();
            has_begun.recv().unwrap();
            let alone = meet(crew, 1, 1);
            drop(end);
            assert_eq!(alone, 1);
        });
    }

    #[test]
    fn work_that_asks_for_help_itself_goes_on_alone() {
        let (crew, within) = (Crew::of(1), AtomicUsize::new(0));
        crew.work(0, &|| within.store(meet(&crew, 1, 2), Ordering::Relaxed));
        assert_eq!(within.load(Ordering::Relaxed), 2, "nobody else is helped");
        crew.work(1, &|| within.store(meet(&crew, 1, 1), Ordering::Relaxed));
        assert_eq!(within.into_inner(), 1);
    }

    #[test]
    fn a_panic_comes_back_and_the_crew_goes_on() {
        let crew = Crew::of(2);
        for who in 0..3 {
            let (count, barrier) = (AtomicUsize::new(0), Barrier::new(3));
            let result = catch_unwind(AssertUnwindSafe(|| {
                crew.work(2, &|| {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    barrier.wait();
                    assert!(number != who, "number {who} fell");
                });
            }));
            let said = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(said, format!("number {who} fell"));
            assert_eq!(meet(&crew, 2, 3), 3);
        }
    }
}
