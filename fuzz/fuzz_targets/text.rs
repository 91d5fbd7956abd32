//! Fuzzes what `crates/patchbay-graph/tests/fuzz` calls `text`.
#![no_main]
#![allow(dead_code, reason = "each target needs a part of what the tests share")]

#[path = "../../crates/patchbay-graph/tests/common/mod.rs"]
mod common;
#[path = "../../crates/patchbay-graph/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::text(bytes);
});
