//! Jobs whose time is over, and jobs that nobody wants any more.

use std::time::{Duration, Instant};

use patchbay_engine::{Cancel, EngineError, EngineSettings, Order};

use super::{Place, last};

fn until(deadline: Instant) -> Order {
    Order { deadline: Some(deadline), ..Order::default() }
}

fn wait_until(deadline: Instant) {
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
}

#[test]
fn a_job_that_comes_too_late_is_not_taken() {
    let place = Place::new(EngineSettings::default());
    let late = place.lab.submit_as(&last(&[&[1, 2, 3]]), until(Instant::now()), Cancel::default());
    assert!(matches!(late.err(), Some(EngineError::TimedOut)));
    assert_eq!((place.lab.engine.queued(), place.gate.came()), (0, 0));
}

#[test]
fn a_job_that_waits_when_its_time_is_over_never_runs() {
    let place = Place::new(EngineSettings::default());
    let first = place.standing();
    let deadline = Instant::now() + Duration::from_millis(300);
    let (late, body) = (Cancel::default(), last(&[&[1, 2, 3]]));
    let late = place.lab.submit_as(&body, until(deadline), late).unwrap();
    wait_until(deadline);
    place.gate.open();
    first.wait().unwrap();
    let norms = place.gate.came();
    assert!(matches!(late.wait().err(), Some(EngineError::TimedOut)));
    assert_eq!((place.gate.came(), place.lab.engine.queued()), (norms, 0));
}

/// Each is stopped at the next block; one with time to spare in the same wave goes on to its end.
#[test]
fn a_job_that_runs_when_its_time_is_over_is_stopped_between_blocks() {
    let place = Place::new(EngineSettings::default());
    let body = |token: u32| last(&[&[token, 2, 3]]);
    let alone = place.lab.run(&body(5));
    let whole = place.gate.came();
    let first = place.standing();
    let deadline = Instant::now() + Duration::from_millis(300);
    let cancel = Cancel::default();
    let late = place.lab.submit_as(&body(4), until(deadline), Cancel::default()).unwrap();
    let cancelled = place.lab.submit_as(&body(6), Order::default(), cancel.clone()).unwrap();
    let patient =
        place.lab.submit_as(&body(5), until(deadline + Duration::from_secs(3600)), Cancel::default()).unwrap();
    // the first one ends, and the three stand at the gate, in time
    let came = place.gate.came();
    place.gate.let_pass(whole);
    place.gate.wait_beyond(came + whole - 1);
    first.wait().unwrap();
    wait_until(deadline);
    cancel.cancel();
    place.gate.open();
    assert!(matches!(late.wait().err(), Some(EngineError::TimedOut)));
    assert!(matches!(cancelled.wait().err(), Some(EngineError::Cancelled)));
    let ran = patient.wait().unwrap();
    assert!(super::common::same_bits(&ran.raw("x"), &alone.raw("x")));

    // alone, it leaves nothing to do
    place.gate.shut();
    let (came, deadline) = (place.gate.came(), Instant::now() + Duration::from_millis(300));
    let late = place.lab.submit_as(&body(7), until(deadline), Cancel::default()).unwrap();
    place.gate.wait_beyond(came);
    wait_until(deadline);
    place.gate.open();
    assert!(matches!(late.wait().err(), Some(EngineError::TimedOut)));
    assert!(place.gate.came() - came < whole, "it went on to its end");
}
