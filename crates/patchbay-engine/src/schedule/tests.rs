use proptest::prelude::*;

use super::*;

const ENDLESS: Bounds =
    Bounds { work: f64::INFINITY, long: f64::INFINITY, shared_bytes: u64::MAX, bytes: u64::MAX, jobs: usize::MAX };

fn item<T>(caller: usize, weight: f64, request: u64, own: f64, job: T) -> Item<T> {
    let claim = Claim { caller: caller.to_string().into(), weight, request };
    Item { claim, price: Price { own, common: 0.0 }, bytes: 1, alone: false, keeps: false, job }
}

fn put<T>(schedule: &mut Schedule<T>, item: Item<T>) {
    assert!(schedule.push(item, true).is_ok());
}

fn jobs<T: Copy>(chosen: &Chosen<T>) -> Vec<T> {
    chosen.jobs.iter().map(|item| item.job).collect()
}

/// One job, and its work.
fn one<T>(schedule: &mut Schedule<T>) -> Option<Item<T>> {
    schedule.next_wave(Bounds { jobs: 1, ..ENDLESS }).jobs.pop()
}

#[test]
fn a_queue_has_an_end_for_requests_and_none_for_the_cells_of_those_that_are_in() {
    let mut schedule = Schedule::new(2);
    assert!(schedule.push(item(0, 1.0, 0, 1.0, 'a'), false).is_ok());
    assert!(schedule.push(item(0, 1.0, 0, 1.0, 'b'), false).is_ok());
    assert!(schedule.push(item(1, 1.0, 1, 1.0, 'c'), false).is_ok());
    assert_eq!(schedule.push(item(2, 1.0, 2, 1.0, 'd'), false).unwrap_err().job, 'd');
    assert!(schedule.push(item(2, 1.0, 2, 1.0, 'd'), true).is_ok(), "a request that has begun");
    assert_eq!((schedule.requests(), schedule.jobs(), schedule.work()), (3, 4, 4.0));
}

#[test]
fn what_the_cells_of_a_sweep_have_in_common_counts_once_a_wave() {
    let mut schedule = Schedule::new(9);
    for cell in 0..6 {
        let price = Price { own: 1.0, common: 10.0 };
        put(&mut schedule, Item { price, ..item(0, 1.0, 0, 0.0, cell) });
    }
    assert_eq!(schedule.work(), 16.0);
    let first = schedule.next_wave(Bounds { work: 13.5, long: 13.5, ..ENDLESS });
    assert_eq!((jobs(&first), first.work, first.full), (vec![0, 1, 2], 13.0, true));
    let rest = schedule.next_wave(Bounds { work: 14.0, ..ENDLESS });
    assert_eq!((jobs(&rest), rest.work, rest.full), (vec![3, 4, 5], 13.0, false));
    assert!(schedule.next_wave(ENDLESS).jobs.is_empty());
}

#[test]
fn a_small_rest_is_taken_along() {
    let wave = |count: u64| {
        let mut schedule = Schedule::new(99);
        (0..count).for_each(|number| put(&mut schedule, item(0, 1.0, number, 1.0, number)));
        put(&mut schedule, item(0, 1.0, 100, 50.0, 100));
        let chosen = schedule.next_wave(Bounds { work: 10.0, long: 60.0, ..ENDLESS });
        (chosen.jobs.len(), chosen.full)
    };
    assert_eq!([wave(9), wave(13), wave(14), wave(15)], [(9, false), (13, false), (14, false), (10, true)]);
}

#[test]
fn what_does_not_fit_waits_and_nobody_passes_it() {
    let mut schedule = Schedule::new(9);
    let sized = |bytes: u64, number: u64| Item { bytes, ..item(0, 1.0, number, 1.0, number) };
    [sized(4, 0), sized(6, 1), sized(20, 2), sized(1, 3)].into_iter().for_each(|item| put(&mut schedule, item));
    let most = Bounds { shared_bytes: 10, bytes: 16, ..ENDLESS };
    assert_eq!(jobs(&schedule.next_wave(most)), [0, 1]);
    assert!(schedule.next_wave(most).jobs.is_empty(), "20 bytes are more than 16");
    assert_eq!(jobs(&schedule.next_wave(Bounds { bytes: 20, ..most })), [2], "one that is large has its own wave");
    assert_eq!(jobs(&schedule.next_wave(most)), [3]);
}

#[test]
fn what_shares_no_wave_has_its_own() {
    let mut schedule = Schedule::new(9);
    for number in 0..5 {
        put(&mut schedule, Item { alone: number % 2 == 1, ..item(0, 1.0, number, 1.0, number) });
    }
    let waves: Vec<_> = std::iter::repeat_with(|| jobs(&schedule.next_wave(ENDLESS))).take(5).collect();
    assert_eq!(waves, [vec![0], vec![1], vec![2], vec![3], vec![4]]);
}

#[test]
fn those_who_are_gone_are_taken_out() {
    let mut schedule = Schedule::new(9);
    for number in 0..10 {
        put(&mut schedule, item(number % 3, 1.0, (number % 4) as u64, 1.0, number));
    }
    assert_eq!(schedule.take_out(|_| false), [0; 0]);
    let mut gone = schedule.take_out(|number| number % 2 == 0);
    gone.sort_unstable();
    assert_eq!(gone, [0, 2, 4, 6, 8]);
    let mut left = jobs(&schedule.next_wave(ENDLESS));
    left.sort_unstable();
    assert_eq!((left, schedule.requests(), schedule.work()), (vec![1, 3, 5, 7, 9], 0, 0.0));
}

/// Three sweeps of ten thousand cells run, one of them the same caller's, and in each of their waves a small trace comes.
#[test]
fn a_small_trace_runs_within_the_wave_of_long_sweeps() {
    for caller in [0, 7] {
        let mut schedule = Schedule::new(512);
        for cell in 0..10_000 {
            for sweep in 0..3 {
                let price = Price { own: 5.0, common: 30.0 };
                put(&mut schedule, Item { price, ..item(sweep, 1.0, sweep as u64, 0.0, (sweep, cell)) });
            }
        }
        let most = Bounds { work: 100.0, long: 300.0, jobs: 512, ..ENDLESS };
        for wave in 0..20 {
            let chosen = schedule.next_wave(most);
            assert!(chosen.full && chosen.long && chosen.work <= most.long, "{wave}");
            let of = |sweep| chosen.jobs.iter().filter(|item| item.job.0 == sweep).count();
            assert!((0..3).all(|sweep| of(sweep) >= 10), "every sweep goes on in every wave");
            put(&mut schedule, item(caller, 1.0, 100 + wave, 25.0, (9, wave as usize)));
            let running = chosen.jobs.iter().map(|item| item.claim.request).collect();
            assert!(schedule.between(Bounds { work: 24.0, ..most }, &running).jobs.is_empty(), "it is 25");
            let next = schedule.between(most, &running);
            assert_eq!(jobs(&next), [(9, wave as usize)], "the trace of wave {wave} is not in it");
            assert_eq!((next.work, next.long), (25.0, false));
        }
    }
}

/// A caller that comes back with another large job as soon as one is done has no more than its share.
#[test]
fn coming_back_at_once_gains_nothing() {
    let mut schedule = Schedule::new(512);
    for number in 0..10_000 {
        put(&mut schedule, item(0, 1.0, 0, 1.0, number));
    }
    put(&mut schedule, item(1, 1.0, 1, 50.0, 0));
    let mut done = [0.0, 0.0];
    for round in 0..2_000 {
        let item = one(&mut schedule).unwrap();
        let caller = usize::from(&*item.claim.caller == "1");
        done[caller] += item.price.own;
        if caller == 1 {
            put(&mut schedule, self::item(1, 1.0, 2 + round, 50.0, 0));
        }
    }
    assert!((done[0] - done[1]).abs() <= 101.0, "{done:?}");
}

proptest! {
    /// As long as everybody waits, each has its weight's share of the work, up to one largest job; and one wave, where short
    /// requests and long ones run by themselves.
    #[test]
    fn shares_are_those_of_the_weights(
        callers in proptest::collection::vec((1u32..9, 1u32..4, proptest::collection::vec(1u32..60, 30..200)), 2..8),
        wave in 1u32..300,
        short in prop_oneof![Just(0.0f64), 0.0..3000.0],
    ) {
        let mut schedule = Schedule::new(usize::MAX);
        let mut left = Vec::new();
        // the work of jobs is never 0, so that all requests are long where short ones have none
        let mut slack = if short > 0.0 { (REST * short).max(f64::from(wave)) } else { 0.0 };
        let mut largest = 0.0f64;
        for (number, (weight, requests, costs)) in callers.iter().enumerate() {
            for (i, cost) in costs.iter().enumerate() {
                let request = number as u64 * 1000 + (i as u64 % u64::from(*requests));
                put(&mut schedule, item(number, f64::from(*weight), request, f64::from(*cost), number));
                largest = largest.max(f64::from(*cost));
            }
            left.push(costs.len());
        }
        let weights: f64 = callers.iter().map(|caller| f64::from(caller.0)).sum();
        slack += largest + 1e-6;
        let mut done = vec![0.0; callers.len()];
        'all: loop {
            let chosen = schedule.next_wave(Bounds { work: short, long: f64::from(wave), ..ENDLESS });
            let most = match (chosen.long, chosen.full) {
                (true, _) => f64::from(wave),
                (false, true) => short,
                (false, false) => REST * short,
            };
            prop_assert!(!chosen.jobs.is_empty() && (chosen.jobs.len() == 1 || chosen.work <= most));
            for item in chosen.jobs {
                done[item.job] += item.price.own;
                left[item.job] -= 1;
                if left[item.job] == 0 {
                    break 'all;
                }
                let total: f64 = done.iter().sum();
                for (caller, done) in callers.iter().zip(&done) {
                    let share = total * f64::from(caller.0) / weights;
                    prop_assert!((done - share).abs() <= slack, "{done} of {share}");
                }
            }
        }
    }

    /// Callers come and go; whatever came before, one who comes waits for the others' shares of what it brings and for a few of
    /// their jobs, and everything runs once, a request's jobs in their order.
    #[test]
    fn nobody_starves(
        arrivals in proptest::collection::vec((0usize..6, 0u64..3, 1u32..40, 0usize..3), 50..400),
        weights in proptest::collection::vec(1u32..6, 7),
        cost in 1u32..80,
    ) {
        let weight = |caller: usize| f64::from(weights[caller]);
        let mut schedule = Schedule::new(usize::MAX);
        let (mut order, mut ran): (BTreeMap<u64, Vec<usize>>, Vec<Item<usize>>) = Default::default();
        for (number, (caller, request, cost, runs)) in arrivals.iter().enumerate() {
            let request = *caller as u64 * 10 + request;
            put(&mut schedule, item(*caller, weight(*caller), request, f64::from(*cost), number));
            order.entry(request).or_default().push(number);
            ran.extend((0..*runs).filter_map(|_| one(&mut schedule)));
        }
        let before = ran.len();
        put(&mut schedule, item(6, weight(6), 60, f64::from(cost), arrivals.len()));
        order.entry(60).or_default().push(arrivals.len());
        ran.extend(std::iter::from_fn(|| one(&mut schedule)));
        let late = ran[before..].iter().take_while(|item| item.job != arrivals.len());
        let late: f64 = late.map(|item| item.price.own).sum();
        let own = f64::from(cost) / weight(6);
        let bound: f64 = (0..6).map(|caller| weight(caller) * own + 3.0 * 80.0).sum();
        prop_assert!(late <= bound, "{late} of {bound}");

        prop_assert_eq!(ran.len(), arrivals.len() + 1);
        let mut found: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        ran.iter().for_each(|item| found.entry(item.claim.request).or_default().push(item.job));
        prop_assert_eq!(found, order);
        prop_assert_eq!((schedule.requests(), schedule.work()), (0, 0.0));
    }
}
