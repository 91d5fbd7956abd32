//! How often the system has to clear memory anew. A program of its own, so that glibc's rules are those that it set.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::mem::MaybeUninit;

use patchbay_heap::{Heap, settle};

#[global_allocator]
static HEAP: Heap = Heap;

/// Pages that this thread had mapped since it began.
fn faults() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    #[allow(unsafe_code)]
    // SAFETY: the structure is filled where the call succeeds, which is asserted.
    unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()), 0);
        usage.assume_init().ru_minflt
    }
}

/// A layer's buffers, of some hundred thousand bytes each: taken, filled, and freed.
fn layer() {
    let buffers: Vec<Vec<u8>> = [147_456, 49_152, 49_152, 200_000, 147_456].map(|bytes| vec![1; bytes]).into();
    assert!(buffers.iter().all(|buffer| buffer[buffer.len() - 1] == 1));
}

#[test]
fn the_next_layer_takes_the_memory_of_the_last() {
    settle();
    // a thread that is not the first has an arena of its own, as the executor does
    let found = std::thread::spawn(|| {
        layer();
        let before = faults();
        (0..50).for_each(|_| layer());
        faults() - before
    });
    let found = found.join().unwrap();
    assert!(found < 50, "{found} pages in 50 layers");
}
