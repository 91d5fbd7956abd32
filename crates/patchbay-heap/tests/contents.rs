//! The heap as the allocator of a program: memory holds what was written to it, whoever had it before.
#![cfg(target_os = "linux")]

use patchbay_heap::{Heap, expect};
use proptest::prelude::*;

#[global_allocator]
static HEAP: Heap = Heap;

/// Bytes around the sizes at which allocations change hands.
fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..5000, (200_usize << 10)..(300 << 10), (1_usize << 20)..(5 << 20)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_written_is_read(steps in prop::collection::vec((0_u8..4, bytes(), any::<u8>()), 1..60), planned in 0_u64..30 << 20) {
        let expected = expect(planned);
        let mut held: Vec<(Vec<u8>, u8)> = Vec::new();
        for (what, bytes, fill) in steps {
            let one = if held.is_empty() { 0 } else { bytes % held.len() };
            match what {
                0 => held.push((vec![fill; bytes], fill)),
                1 => {
                    let zeros = vec![0_u8; bytes];
                    prop_assert!(zeros.iter().all(|byte| *byte == 0));
                    held.push((zeros, 0));
                }
                2 if !held.is_empty() => drop(held.swap_remove(one)),
                3 if !held.is_empty() => {
                    let (vector, filled) = &mut held[one];
                    vector.resize(bytes, *filled);
                    vector.shrink_to_fit();
                }
                _ => {}
            }
        }
        drop(expected);
        for (vector, filled) in &held {
            prop_assert!(vector.iter().all(|byte| byte == filled));
        }
    }
}

#[test]
fn threads_hand_memory_to_each_other() {
    let expected = expect(64 << 20);
    let (send, take) = std::sync::mpsc::channel::<(Vec<u8>, u8)>();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let send = send.clone();
            scope.spawn(move || {
                for turn in 0..50_u8 {
                    let fill = thread * 50 + turn;
                    send.send((vec![fill; (300 << 10) + usize::from(turn) * 9000], fill)).unwrap();
                }
            });
        }
        drop(send);
        for (vector, fill) in take {
            assert!(vector.iter().all(|byte| *byte == fill));
        }
    });
    drop(expected);
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    assert!(Vec::<u8>::new().try_reserve_exact(isize::MAX as usize).is_err());
    let mut some = vec![7_u8; 1 << 20];
    assert!(some.try_reserve_exact(1 << 60).is_err());
    assert!(some.iter().all(|byte| *byte == 7));
}
