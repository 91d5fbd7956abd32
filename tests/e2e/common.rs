//! What the tests of the engine have, too.

#[path = "../../crates/patchbay-engine/tests/common/random.rs"]
mod random;

pub(crate) use random::Random;
