//! What is held, for how long, and what does not fit.

use std::time::{Duration, Instant};

use patchbay_engine::{Cancel, EngineError, EngineSettings, Memory, Order};
use patchbay_graph::Code;
use serde_json::{Value, json};

use super::{Place, last};

fn place(memory: &Memory) -> Place {
    Place::new(EngineSettings { memory: memory.clone(), ..EngineSettings::default() })
}

/// The worker lets go of a wave's memory just after it has answered.
#[track_caller]
fn settles(memory: &Memory, bytes: u64) {
    let begin = Instant::now();
    while memory.held() != bytes {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} bytes are held in place of {bytes}", memory.held());
        std::thread::yield_now();
    }
}

fn peak(place: &Place, body: &Value) -> u64 {
    place.lab.plan(body).unwrap().1.cost.peak_bytes
}

#[track_caller]
fn assert_too_large(error: Option<EngineError>, numbers: [u64; 2]) {
    let Some(EngineError::Refused(problem)) = error else { panic!("{error:?}") };
    assert_eq!(problem.code, Code::TooLarge);
    assert!(numbers.iter().all(|number| problem.detail.contains(&number.to_string())), "{problem}");
}

#[test]
fn a_wave_holds_its_price_and_its_results_until_they_are_dropped() {
    let memory = Memory::default();
    let place = place(&memory);
    let body = last(&[&[1, 2, 3], &[4, 5]]);
    place.gate.shut();
    let running = place.lab.submit(&body).unwrap();
    place.gate.wait_beyond(0);
    assert_eq!(memory.held(), peak(&place, &body));
    place.gate.open();
    let ran = running.wait().unwrap();
    let result = ran.plan.cost.result_bytes;
    assert!(result > 0);
    settles(&memory, result);
    let copy = ran.outcome.clone();
    drop(ran);
    settles(&memory, result);
    drop(copy);
    settles(&memory, 0);
}

#[test]
fn whatever_becomes_of_a_job_its_memory_is_let_go() {
    let memory = Memory::default();
    let place = place(&memory);
    let body = last(&[&[1, 2, 3]]);
    let ids = json!({"op": "add", "args": [{"op": "argmax", "args": ["logits[:, :]"], "dim": -1}, 1_000_000]});
    let broken = json!({"input": [[1, 2, 3]], "graph": [
        {"op": "save", "value": {"op": "call", "module": "embed_tokens", "args": [ids]}, "as": "x"}]});
    let first = place.standing();
    let deadline = Instant::now() + Duration::from_millis(300);
    let (cancel, late) = (Cancel::default(), Order { deadline: Some(deadline), ..Order::default() });
    let cancelled = place.lab.submit_as(&body, Order::default(), cancel.clone()).unwrap();
    let late = place.lab.submit_as(&body, late, Cancel::default()).unwrap();
    let refused = place.lab.submit(&broken).unwrap();
    let unwanted = place.lab.submit(&body).unwrap();
    drop(unwanted);
    while Instant::now() <= deadline {
        std::thread::yield_now();
    }
    cancel.cancel();
    place.gate.open();
    drop(first.wait().unwrap());
    assert!(matches!(cancelled.wait().err(), Some(EngineError::Cancelled)));
    assert!(matches!(late.wait().err(), Some(EngineError::TimedOut)));
    assert!(matches!(refused.wait().err(), Some(EngineError::Refused(_))));
    settles(&memory, 0);

    // those that are stopped on their way
    for round in 0..2 {
        place.gate.shut();
        let (came, cancel) = (place.gate.came(), Cancel::default());
        let running = place.lab.submit_as(&body, Order::default(), cancel.clone()).unwrap();
        place.gate.wait_beyond(came);
        assert_eq!(memory.held(), peak(&place, &body));
        cancel.cancel();
        match round {
            0 => drop(running),
            _ => {
                place.gate.open();
                assert!(running.wait().is_err());
            }
        }
        place.gate.open();
        settles(&memory, 0);
    }
}

#[test]
fn what_is_beyond_the_budget_is_refused_before_it_waits() {
    let body = last(&[&[1, 2, 3]]);
    let peak = peak(&place(&Memory::default()), &body);
    place(&Memory::new(peak)).lab.run(&body);
    let tight = place(&Memory::new(peak - 1));
    assert_too_large(tight.lab.submit(&body).err(), [peak, peak - 1]);
    assert_eq!((tight.lab.engine.queued(), tight.gate.came()), (0, 0));
}

/// Another model is loaded meanwhile.
#[test]
fn what_waits_when_the_budget_shrinks_is_refused() {
    let memory = Memory::new(1 << 30);
    let place = place(&memory);
    let body = last(&[&[7; 100], &[8; 100]]);
    let first = place.standing();
    let waiting = place.lab.submit(&body).unwrap();
    memory.set_free(0);
    place.gate.open();
    let limit = memory.limit();
    assert_too_large(waiting.wait().err(), [peak(&place, &body), limit]);
    first.wait().unwrap();
}

#[test]
fn a_job_waits_for_what_results_hold_and_no_longer() {
    let many = last(&[&[7; 100], &[8; 100]]);
    let free = place(&Memory::default());
    let (peak, result) = (peak(&free, &many), free.lab.run(&many).plan.cost.result_bytes);
    let memory = Memory::new(peak + result / 2);
    let place = place(&memory);
    let ran = place.lab.run(&many);
    settles(&memory, result);
    let waiting = place.lab.submit(&many).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(place.lab.engine.queued(), 1, "it does not fit beside the result of the first");
    drop(ran);
    waiting.wait().unwrap();
    settles(&memory, 0);
}
