//! The built program, end to end: over a real socket, or from the command line.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod contract;
mod docs;
mod golden;
mod server;
mod smollm2;
mod sweeps;
