//! Who is next: jobs that wait, and which of them run together.
//!
//! A job belongs to a request, and a request to a caller. Callers take turns by weighted fair queueing of priced work, and so
//! do the requests of one caller, each of which counts as much ([`turns`]); jobs of one request come in their order. So a
//! trace that arrives behind the ten thousand cells of a sweep has its turn in the next wave, and a caller with a thousand
//! requests has no more of the machine than one with two.
//!
//! A wave takes jobs in the order of their turns until the next one does not fit: its work bounds how long it lasts, its bytes
//! how much memory it takes, and nobody is passed over for a smaller one behind. How much work a wave may be is learnt
//! from how long waves took ([`pace`]); a wave takes along a small rest.
//!
//! Requests that are more than a short wave, like sweeps, run in long ones, where more of what they have in common is
//! computed once; short requests run by themselves, so that they do not wait for the long ones' end. Whoever is short and comes
//! while a long wave runs need not wait for it either: they run [between](Schedule::between) its layers, as long as the wave has
//! half of the machine.
//!
//! Nothing here computes, waits or looks at a clock: the same calls give the same schedule.

pub mod pace;
pub mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use turns::Turns;

/// How many times as much as it may be a wave is where nothing short is left over then: what is left over would have a wave of its
/// own, which reads all weights anew.
const REST: f64 = 1.4;

/// What a job would do, in floating-point operations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Work of its own.
    pub own: f64,
    /// Work that it has in common with the other jobs of its request, which is done once a wave.
    pub common: f64,
}

/// Whose a job is.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The caller, by any name: callers of one name share one turn.
    pub caller: Arc<str>,
    /// How much of the machine the caller has beside others; above 0.
    pub weight: f64,
    /// The request. Jobs of one request have one number, and no two requests the same.
    pub request: u64,
}

/// A job as far as the schedule goes.
#[derive(Clone, Debug)]
pub struct Item<T> {
    /// Whose it is.
    pub claim: Claim,
    /// What it does.
    pub price: Price,
    /// Bytes that it holds at the worst moment.
    pub bytes: u64,
    /// Whether it shares no wave.
    pub alone: bool,
    /// Whether it keeps memory from wave to wave, which is let go when those that follow it have run.
    pub keeps: bool,
    /// The job.
    pub job: T,
}

/// What a wave may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Floating-point operations of a wave of short requests. A request of which more waits is a long one.
    pub work: f64,
    /// Floating-point operations of a wave of long requests. A job that is more than that has a wave of its own.
    pub long: f64,
    /// Bytes that jobs may hold together to share a wave. A job that holds more has a wave of its own.
    pub shared_bytes: u64,
    /// Bytes that nothing may go beyond: a job that does not fit waits until there are more.
    pub bytes: u64,
    /// Jobs.
    pub jobs: usize,
}

/// What runs next.
#[derive(Debug)]
pub struct Chosen<T> {
    /// Jobs, in the order of their turns.
    pub jobs: Vec<Item<T>>,
    /// Their work together.
    pub work: f64,
    /// Whether there was more that its work alone kept out.
    pub full: bool,
    /// Whether they are of long requests.
    pub long: bool,
}

/// Jobs that wait.
#[derive(Debug)]
pub struct Schedule<T> {
    /// Requests that may wait.
    capacity: usize,
    callers: Turns<Arc<str>>,
    /// Their requests, and the jobs of these.
    waiting: BTreeMap<Arc<str>, Caller<T>>,
}

#[derive(Debug, Default)]
struct Caller<T> {
    requests: Turns<u64>,
    jobs: BTreeMap<u64, Request<T>>,
}

/// The jobs of a request, in their order.
#[derive(Debug)]
struct Request<T> {
    jobs: VecDeque<Item<T>>,
    /// Their own work together.
    own: f64,
}

impl<T> Default for Request<T> {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), own: 0.0 }
    }
}

impl<T> Request<T> {
    fn work(&self) -> f64 {
        self.own + self.jobs.front().map_or(0.0, |item| item.price.common)
    }

    fn is_long(&self, short: f64) -> bool {
        self.work() > short
    }

    fn push(&mut self, item: Item<T>) {
        self.own += item.price.own;
        self.jobs.push_back(item);
    }

    fn pop(&mut self) -> Option<Item<T>> {
        let item = self.jobs.pop_front()?;
        self.own = if self.jobs.is_empty() { 0.0 } else { self.own - item.price.own };
        Some(item)
    }

    /// Takes out the jobs that are `gone`.
    fn take_out(&mut self, gone: &impl Fn(&T) -> bool) -> VecDeque<Item<T>> {
        let (going, staying): (VecDeque<_>, _) =
            std::mem::take(&mut self.jobs).into_iter().partition(|item| gone(&item.job));
        self.own = staying.iter().map(|item| item.price.own).sum();
        self.jobs = staying;
        going
    }
}

impl<T> Schedule<T> {
    /// Nobody waits yet, and so many requests may.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, callers: Turns::default(), waiting: BTreeMap::new() }
    }

    /// Takes in a job behind those of its request. One whose request waits already, or `goes_on`, always finds room: it was
    /// let in with its first job.
    ///
    /// # Errors
    /// As many requests wait as may; the job comes back.
    pub fn push(&mut self, item: Item<T>, goes_on: bool) -> Result<(), Box<Item<T>>> {
        let Claim { caller, weight, request } = item.claim.clone();
        let known = self.waiting.get(&caller).is_some_and(|caller| caller.jobs.contains_key(&request));
        if !known && !goes_on && self.requests() >= self.capacity {
            return Err(Box::new(item));
        }
        self.callers.join(&caller, weight);
        let waiting =
            self.waiting.entry(caller).or_insert_with(|| Caller { requests: Turns::default(), jobs: BTreeMap::new() });
        waiting.requests.join(&request, 1.0);
        waiting.jobs.entry(request).or_default().push(item);
        Ok(())
    }

    /// Requests that wait.
    pub fn requests(&self) -> usize {
        self.waiting.values().map(|caller| caller.jobs.len()).sum()
    }

    /// Jobs that wait.
    pub fn jobs(&self) -> usize {
        self.items().count()
    }

    /// Operations that wait: what the jobs of a request have in common counts once.
    pub fn work(&self) -> f64 {
        self.each().map(Request::work).sum()
    }

    fn each(&self) -> impl Iterator<Item = &Request<T>> {
        self.waiting.values().flat_map(|caller| caller.jobs.values())
    }

    fn items(&self) -> impl Iterator<Item = &Item<T>> {
        self.each().flat_map(|request| &request.jobs)
    }

    /// Takes out jobs that are not to run any more.
    pub fn take_out(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        if !self.items().any(|item| gone(&item.job)) {
            return Vec::new();
        }
        let mut out = Vec::new();
        for caller in self.waiting.values_mut() {
            for jobs in caller.jobs.values_mut() {
                out.extend(jobs.take_out(&gone).into_iter().map(|item| item.job));
            }
        }
        self.tidy();
        out
    }

    /// Takes out the jobs that run next. None where nobody waits, or where the next one does not fit into `most.bytes`.
    pub fn next_wave(&mut self, most: Bounds) -> Chosen<T> {
        let first = self.next(|_, _| true, &BTreeSet::new());
        let long = first.is_some_and(|(caller, request, _)| self.is_long(&caller, request, most.work));
        let work = if long { most.long } else { self.with_the_rest(most.work) };
        let chosen = self.choose(Bounds { work, ..most }, false, |_, is_long| is_long == long, most.work);
        Chosen { long, ..chosen }
    }

    /// How much work a wave of short requests may be: all that waits, where it is little more than may be (`short`).
    fn with_the_rest(&self, short: f64) -> f64 {
        let all: f64 = self.each().filter(|request| !request.is_long(short)).map(Request::work).sum();
        if all <= REST * short { all.max(short) } else { short }
    }

    /// Takes out jobs that keep memory, for which the next one may wait: whatever it needs, they go on until they have let it go.
    pub fn relief(&mut self, most: Bounds) -> Chosen<T> {
        let keeps = |request: &Request<T>| request.jobs.front().is_some_and(|item| item.keeps);
        let meant =
            |number: u64, request: &Request<T>, begun: &BTreeSet<u64>| !begun.contains(&number) && keeps(request);
        self.choose_where(Bounds { bytes: u64::MAX, ..most }, false, meant)
    }

    /// Takes out jobs of short requests, up to `most.work` and not of those that are `running`, to run between the layers of a
    /// wave.
    pub fn between(&mut self, most: Bounds, running: &BTreeSet<u64>) -> Chosen<T> {
        self.choose(most, true, |request, is_long| !is_long && !running.contains(&request), most.work)
    }

    /// Takes out jobs of the requests that are `meant`, by their number and whether they are more than `short`.
    /// Where it is `strict`, also the first one has to fit.
    fn choose(&mut self, most: Bounds, strict: bool, meant: impl Fn(u64, bool) -> bool, short: f64) -> Chosen<T> {
        let meant = |number: u64, request: &Request<T>, begun: &BTreeSet<u64>| {
            begun.contains(&number) || meant(number, request.is_long(short))
        };
        self.choose_where(most, strict, meant)
    }

    /// Takes out jobs of the requests that are `meant`, which is told those of which some were taken.
    fn choose_where(
        &mut self,
        most: Bounds,
        strict: bool,
        meant: impl Fn(u64, &Request<T>, &BTreeSet<u64>) -> bool,
    ) -> Chosen<T> {
        let mut chosen = Chosen { jobs: Vec::new(), work: 0.0, full: false, long: false };
        let mut begun = BTreeSet::new();
        let mut bytes = 0u64;
        while chosen.jobs.len() < most.jobs {
            let meant = |number: u64, request: &Request<T>| meant(number, request, &begun);
            let Some((caller, request, work)) = self.next(meant, &begun) else { break };
            let Some(item) = self.front(&caller, request) else { break };
            let (together, first) = (bytes.saturating_add(item.bytes), chosen.jobs.is_empty());
            let (alone, too_much) = (item.alone, chosen.work + work > most.work);
            if together > most.bytes || !first && (alone || together > most.shared_bytes) {
                break;
            }
            if too_much && (!first || strict) {
                chosen.full = true;
                break;
            }
            let Some(item) = self.take(&caller, request, work) else { break };
            begun.insert(request);
            bytes = together;
            chosen.work += work;
            chosen.jobs.push(item);
            if alone {
                break;
            }
        }
        self.tidy();
        chosen
    }

    fn is_long(&self, caller: &Arc<str>, request: u64, short: f64) -> bool {
        let request = self.waiting.get(caller).and_then(|waiting| waiting.jobs.get(&request));
        request.is_some_and(|request| request.is_long(short))
    }

    /// Of the requests that are `meant`, the one whose turn it is, and the work of its next job in a wave where these requests
    /// have `begun`.
    fn next(&self, meant: impl Fn(u64, &Request<T>) -> bool, begun: &BTreeSet<u64>) -> Option<(Arc<str>, u64, f64)> {
        let of_caller = |caller: &Arc<str>| {
            let waiting = self.waiting.get(caller)?;
            waiting.requests.next(|number| {
                let request = waiting.jobs.get(number).filter(|request| meant(*number, request))?;
                let price = request.jobs.front()?.price;
                Some(price.own + if begun.contains(number) { 0.0 } else { price.common })
            })
        };
        let (caller, _) = self.callers.next(|caller| of_caller(caller).map(|(_, work)| work))?;
        let (request, work) = of_caller(&caller)?;
        Some((caller, request, work))
    }

    fn front(&self, caller: &Arc<str>, request: u64) -> Option<&Item<T>> {
        self.waiting.get(caller)?.jobs.get(&request)?.jobs.front()
    }

    fn take(&mut self, caller: &Arc<str>, request: u64, work: f64) -> Option<Item<T>> {
        let waiting = self.waiting.get_mut(caller)?;
        let jobs = waiting.jobs.get_mut(&request)?;
        let item = jobs.pop()?;
        waiting.requests.charge(&request, work);
        if jobs.jobs.is_empty() {
            waiting.jobs.remove(&request);
            waiting.requests.leave(&request);
        }
        self.callers.charge(caller, work);
        if waiting.jobs.is_empty() {
            self.callers.leave(caller);
        }
        Some(item)
    }

    /// Forgets who waits for nothing. What a caller had beyond its share is remembered until the others have had as much.
    fn tidy(&mut self) {
        for (name, caller) in &mut self.waiting {
            let Caller { requests, jobs } = caller;
            jobs.retain(|request, jobs| {
                let stays = !jobs.jobs.is_empty();
                if !stays {
                    requests.leave(request);
                }
                stays
            });
            requests.forget();
            if jobs.is_empty() {
                self.callers.leave(name);
            }
        }
        self.callers.forget();
        let callers = &self.callers;
        self.waiting.retain(|name, caller| !caller.jobs.is_empty() || callers.knows(name));
    }
}

#[cfg(test)]
mod tests;
