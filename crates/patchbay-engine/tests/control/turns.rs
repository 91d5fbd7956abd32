//! Who need not wait for whom.

use patchbay_engine::{Cancel, EngineSettings, Order, Price};

use super::common::same_bits;
use super::{LAYERS, Place, last};

/// Norms of a block.
const NORMS: usize = 2;

#[test]
fn a_short_trace_runs_between_the_layers_of_a_long_wave() {
    let place = Place::new(EngineSettings::default());
    let [long_alone, short_alone] = [[4, 2, 3], [5, 6, 7]].map(|row| place.lab.run(&last(&[&row])));
    place.gate.shut();
    let came = place.gate.came();
    // as much as a sweep of many cells
    let order = Order { price: Some(Price { own: 1e12, common: 0.0 }), ..Order::default() };
    let long = place.lab.submit_as(&last(&[&[4, 2, 3]]), order, Cancel::default()).unwrap();
    place.gate.wait_beyond(came);
    let short = place.lab.submit(&last(&[&[5, 6, 7]])).unwrap();
    // the rest of the first block, and the whole of the short one
    let passing = NORMS + NORMS * LAYERS;
    place.gate.let_pass(passing);
    place.gate.wait_beyond(came + passing);
    let ended = (short.has_ended(), long.has_ended());
    // a wave that stands at the gate would keep the engine, and so this test, from ending
    place.gate.open();
    assert_eq!(ended, (true, false), "the long one stands before its second block");
    assert!(same_bits(&short.wait().unwrap().raw("x"), &short_alone.raw("x")));
    assert!(same_bits(&long.wait().unwrap().raw("x"), &long_alone.raw("x")));
}
