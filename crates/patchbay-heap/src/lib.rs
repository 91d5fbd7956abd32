//! The process's allocator, on Linux.
//!
//! A forward pass takes and frees the same few sizes of large buffers layer after layer. General allocators either give such
//! buffers back to the system at once, which then clears every page of them anew, or keep them by rules of their own, so that the
//! process takes a third more than is in use. But here it is known beforehand what is going to be in use: whoever runs something
//! says so ([`expect`]), and freed buffers are kept for the next that asks for their size as long as all of them stay within that.
//!
//! Small allocations are the system allocator's, which a program tells once to keep some memory for them ([`settle`]). Elsewhere all
//! are: there is no `Heap`, and what is expected changes nothing.

mod expected;
#[cfg(target_os = "linux")]
mod heap;
#[cfg(target_os = "linux")]
mod large;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod size;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod small;

pub use expected::{Expected, expect, give_back};
#[cfg(target_os = "linux")]
pub use heap::Heap;

/// Prepares the system's allocator for being asked for small memory alone. For a program to call before it does anything else; without
/// it everything works, and small buffers that are freed go back to the system and are cleared anew.
pub fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    small::keep();
}
