//! Writes the page of tensor operations: `cargo run -p patchbay-graph --example ops > docs/ops.md`.

#![allow(clippy::print_stdout, reason = "it writes the page to standard output")]

fn main() {
    print!("{}", patchbay_graph::ops::reference());
}
