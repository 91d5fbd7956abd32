//! What the process takes. A program of its own, so that no other test allocates meanwhile.
#![cfg(target_os = "linux")]

use patchbay_heap::{Heap, expect, give_back};

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn what_was_expected_is_kept_and_the_rest_goes_back() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = resident();
    let expected = expect(40 << 20);
    drop(vec![1_u8; 32 << 20]);
    let kept = resident();
    assert!(kept >= before + (30 << 20), "{before}, {kept}");
    drop(vec![1_u8; 90 << 20]);
    let beyond = resident();
    assert!(beyond < before + (42 << 20), "{before}, {beyond}");
    drop(expected);
    give_back();
    let after = resident();
    assert!(after < before + (8 << 20), "{before}, {after}");
}
