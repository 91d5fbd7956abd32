//! The page of tensor operations is the table as it stands.

#[test]
fn the_page_is_the_table() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ops.md")).unwrap_or_default();
    let hint = "docs/ops.md is out of date: cargo run -p patchbay-graph --example ops > docs/ops.md";
    assert!(page == patchbay_graph::ops::reference(), "{hint}");
}
