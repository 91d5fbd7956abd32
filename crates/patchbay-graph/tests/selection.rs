//! Selections against NumPy, rows of different length against each row alone, and where it all lies in memory.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use patchbay_graph::index::Index;
use patchbay_graph::selection::{Blocks, Extent, Extents, Placement, RowPlacement, Selection};
use patchbay_graph::{Code, Packing, Shape, TokenRows};
use proptest::prelude::*;

/// Reads blocks out of a memory; padding is -1.
fn gather(memory: &[i64], blocks: &Blocks) -> Vec<i64> {
    let mut out = Vec::new();
    for block in &blocks.index {
        match *block {
            Blocks::PAD => out.extend(std::iter::repeat_n(-1, blocks.size)),
            block => out.extend(&memory[block as usize * blocks.size..][..blocks.size]),
        }
    }
    out
}

fn select(index: &str, extents: Extents) -> Result<Selection, patchbay_graph::Problem> {
    Selection::new(&Index::parse(index)?, extents, None)
}

/// Where the rows of one input lie when they are all that is packed.
fn packed(packing: Packing, lengths: &[usize]) -> Placement {
    let mut base = 0;
    let mut rows = Vec::new();
    for len in lengths {
        let (size, strides) = match packing {
            Packing::Channels { width } => (len * width, vec![0, width, 1]),
            Packing::Heads { heads, dim } => (len * heads * dim, vec![0, dim, heads * dim, 1]),
            Packing::Pairs { heads } => (heads * len * len, vec![0, len * len, *len, 1]),
        };
        rows.push(RowPlacement { base, strides });
        base += size;
    }
    Placement { rows, elements: base }
}

type Case = (Vec<usize>, String, Option<Vec<usize>>, Option<Vec<i64>>);

fn numpy_cases() -> serde_json::Result<Vec<Case>> {
    serde_json::from_str(include_str!("numpy_index.json"))
}

#[test]
fn selects_what_numpy_selects() {
    for (dims, index, expected_dims, expected) in numpy_cases().unwrap() {
        let shape = Shape::dense(dims.clone());
        let memory: Vec<i64> = (0..shape.elements().unwrap() as i64).collect();
        let found = select(&index, Extents::of_shape(&shape));
        let (Some(expected_dims), Some(expected)) = (expected_dims, expected) else {
            assert!(found.is_err(), "{dims:?}{index}: NumPy refuses");
            continue;
        };
        let found = found.unwrap_or_else(|problem| panic!("{dims:?}{index}: {problem}"));
        assert_eq!(found.shape(), &Shape::dense(expected_dims), "{dims:?}{index}");
        assert_eq!(gather(&memory, &found.blocks(&Placement::of_shape(&shape))), expected, "{dims:?}{index}");
    }
}

#[test]
fn rows_of_one_length_are_a_dense_tensor() {
    let mut tried = 0;
    for (dims, index, expected_dims, expected) in numpy_cases().unwrap() {
        let (Some(expected_dims), Some(expected)) = (expected_dims, expected) else { continue };
        if dims.len() < 2 || dims[0] == 0 {
            continue;
        }
        let mut axes: Vec<Extent> = dims.iter().copied().map(Extent::Fixed).collect();
        axes[1] = Extent::Tokens(vec![dims[1]; dims[0]].into());
        let dense = Placement::of_shape(&Shape::dense(dims.clone()));
        let RowPlacement { strides, .. } = &dense.rows[0];
        let row = |row| RowPlacement { base: row * strides[0], strides: strides.clone() };
        let placement = Placement { rows: (0..dims[0]).map(row).collect(), elements: dense.elements };
        let memory: Vec<i64> = (0..dense.elements as i64).collect();
        let found = select(&index, Extents { axes, rows: Some(0) }).unwrap();
        assert_eq!(found.shape(), &Shape::dense(expected_dims), "{dims:?}{index}");
        assert_eq!(gather(&memory, &found.blocks(&placement)), expected, "{dims:?}{index}");
        tried += 1;
    }
    assert!(tried > 300, "{tried}");
}

fn packing() -> impl Strategy<Value = Packing> {
    prop_oneof![
        (1usize..4).prop_map(|width| Packing::Channels { width }),
        (1usize..4, 1usize..4).prop_map(|(heads, dim)| Packing::Heads { heads, dim }),
        (1usize..4).prop_map(|heads| Packing::Pairs { heads }),
    ]
}

/// An item that is right for every row that has a token, on every axis.
fn item() -> impl Strategy<Value = String> {
    let end = prop_oneof![Just(String::new()), (-7i64..7).prop_map(|end| end.to_string())];
    let step = prop_oneof![Just(""), Just(":2"), Just(":-1"), Just(":-3")];
    prop_oneof![
        Just("-1".to_owned()),
        Just(":".to_owned()),
        Just("[0, -1, 0]".to_owned()),
        (end.clone(), end, step).prop_map(|(start, stop, step)| format!("{start}:{stop}{step}")),
    ]
}

proptest! {
    /// Each row of a selection is what the same index selects of the row alone, padded on the left.
    #[test]
    fn each_row_is_the_row_alone(
        packing in packing(),
        lengths in prop::collection::vec(1usize..6, 1..5),
        items in prop::collection::vec(item(), 0..4),
    ) {
        // lists that are not side by side move in front of the rows, which this comparison does not follow
        prop_assume!(items.iter().filter(|item| !item.contains(':')).count() < 2);
        let rank = packing.axes().len();
        let index = format!("[:, {}]", [&items[..items.len().min(rank - 1)], &["...".to_owned()]].concat().join(", "));
        let placement = packed(packing, &lengths);
        let memory: Vec<i64> = (0..placement.elements as i64).collect();
        let all = select(&index, TokenRows::extents_of(&lengths, packing)).unwrap();
        let found = gather(&memory, &all.blocks(&placement));
        let dims = &all.shape().dims;
        prop_assert_eq!(found.len(), dims.iter().product::<usize>());
        let per_row: usize = dims[1..].iter().product();
        for (row, len) in lengths.iter().enumerate() {
            let alone = select(&index, TokenRows::extents_of(&[*len], packing)).unwrap();
            let base = placement.rows[row].base;
            let one = packed(packing, &[*len]);
            let expected = gather(&memory[base..base + one.elements], &alone.blocks(&one));
            let alone_dims = &alone.shape().dims;
            for (axis, dim) in alone_dims.iter().enumerate().skip(1) {
                let lengths = all.shape().ragged.as_ref().and_then(|ragged| ragged.lengths(axis));
                prop_assert_eq!(lengths.map_or(dims[axis], |lengths| lengths[row]), *dim);
            }
            for (i, value) in found[row * per_row..(row + 1) * per_row].iter().enumerate() {
                prop_assert_eq!(*value, padded(i, &dims[1..], &alone_dims[1..], &expected));
            }
        }
    }

    /// A part of a source is the same part of the places of an axis that it touches, and some others.
    #[test]
    fn a_part_within_the_places_that_it_touches(
        lengths in prop::collection::vec(1usize..6, 1..4),
        tokens in prop_oneof![Just(":".to_owned()), item()],
        channels in prop_oneof![item(), Just("11".to_owned()), Just("[3, 7]".to_owned()), Just("[10]".to_owned())],
        others in prop::collection::btree_set(0usize..12, 0..5),
    ) {
        const WIDTH: usize = 12;
        let wide = Packing::Channels { width: WIDTH };
        // lists in several axes are paired
        prop_assume!(!(tokens.starts_with('[') && channels.starts_with("[3")));
        let selection = select(&format!("[:, {tokens}, {channels}]"), TokenRows::extents_of(&lengths, wide)).unwrap();
        let placement = packed(wide, &lengths);
        let memory: Vec<i64> = (0..placement.elements as i64).collect();
        let whole = gather(&memory, &selection.blocks(&placement));
        let touched = whole.iter().filter(|element| **element >= 0).map(|element| *element as usize % WIDTH);
        let places: BTreeSet<usize> = others.into_iter().chain(touched).collect();
        let places: Vec<usize> = places.into_iter().collect();
        prop_assume!(!places.is_empty());
        let within = selection.within(2, &places);
        let narrow = packed(Packing::Channels { width: places.len() }, &lengths);
        let there = |i: usize| (i / places.len() * WIDTH + places[i % places.len()]) as i64;
        let memory: Vec<i64> = (0..narrow.elements).map(there).collect();
        prop_assert_eq!(within.shape(), selection.shape());
        prop_assert_eq!(gather(&memory, &within.blocks(&narrow)), whole);
        let listed = within.gather(&narrow);
        prop_assert_eq!(listed.size * listed.blocks, selection.shape().dims.iter().product::<usize>());
    }

    /// `tokens` names just the tokens that the blocks touch.
    #[test]
    fn tokens_are_those_that_blocks_touch(
        lengths in prop::collection::vec(1usize..6, 2..5),
        rows in prop_oneof![Just("[0, 1, 0]"), Just("1"), Just(":"), Just("::-1"), Just("[1]")],
        places in prop_oneof![Just("[0, -1, 0]"), Just("-1"), Just("1:"), Just("::2"), Just("[0]")],
    ) {
        let placement = packed(Packing::Channels { width: 2 }, &lengths);
        let extents = TokenRows::extents_of(&lengths, Packing::Channels { width: 2 });
        let selection = select(&format!("[{rows}, {places}]"), extents).unwrap();
        let mut touched = vec![Vec::new(); lengths.len()];
        let memory: Vec<i64> = (0..placement.elements as i64).collect();
        for element in gather(&memory, &selection.blocks(&placement)).into_iter().filter(|element| *element >= 0) {
            let token = element as usize / 2;
            let row = placement.rows.iter().rposition(|row| row.base / 2 <= token).unwrap();
            touched[row].push(token - placement.rows[row].base / 2);
        }
        for row in &mut touched {
            row.sort_unstable();
            row.dedup();
        }
        prop_assert_eq!(selection.tokens(1), touched);
    }
}

/// What stands at place `i` of a padded row.
fn padded(i: usize, dims: &[usize], alone: &[usize], expected: &[i64]) -> i64 {
    let (mut rest, mut at, mut stride) = (i, 0, 1);
    for (dim, own) in dims.iter().zip(alone).rev() {
        let Some(place) = (rest % dim).checked_sub(dim - own) else { return -1 };
        at += place * stride;
        (rest, stride) = (rest / dim, stride * own);
    }
    expected[at]
}

#[test]
fn a_joint_row_has_its_own_last_token() {
    let lengths = [2, 4, 1];
    let extents = TokenRows::extents_of(&lengths, Packing::Channels { width: 1 });
    let selection = select("[[2, 1, 0], -1]", extents).unwrap();
    assert_eq!(selection.tokens(1), [vec![1], vec![3], vec![0]]);
    let blocks = selection.blocks(&packed(Packing::Channels { width: 1 }, &lengths));
    assert_eq!(blocks.index, [6, 5, 1]);
}

#[test]
fn left_padding_and_what_is_read_of_it() {
    let lengths: Arc<[usize]> = [1, 3].into();
    let shape =
        select("[...]", TokenRows::extents_of(&lengths, Packing::Channels { width: 2 })).unwrap().shape().clone();
    assert_eq!((shape.dims.as_slice(), shape.to_string().as_str()), ([2, 3, 2].as_slice(), "[2, 1..3, 2]"));
    // of the padded tensor, the first token of each row is its own
    let first = select("[:, 0]", Extents::of_shape(&shape)).unwrap();
    let memory: Vec<i64> = (0..12).collect();
    assert_eq!(gather(&memory, &first.blocks(&Placement::of_shape(&shape))), [4, 5, 6, 7]);
    let problem = select("[:, 1]", Extents::of_shape(&shape)).unwrap_err();
    assert_eq!(problem.code, Code::IndexOutOfRange);
    assert!(problem.detail.contains("row 0, which has 1 tokens"), "{problem}");
    assert_eq!(problem.hint.as_deref(), Some("places go from -1 to 0"));
}

#[test]
fn whole_sites_are_read_as_they_lie() {
    let extents = TokenRows::extents_of(&[3, 3], Packing::Channels { width: 4 });
    let all = Selection::all(extents.clone());
    assert!(all.is_all() && all.blocks(&packed(Packing::Channels { width: 4 }, &[3, 3])).is_identity());
    let last = select("[:, -1]", extents).unwrap();
    let blocks = last.blocks(&packed(Packing::Channels { width: 4 }, &[3, 3]));
    assert_eq!((blocks.size, blocks.index.as_slice(), blocks.total), (4, [2, 5].as_slice(), 6));
    assert!(!last.is_all() && !blocks.has_padding());
}

#[test]
fn quoted_texts_are_found_in_each_row() {
    let rows = ["In France and France", "It is France"].map(common::words);
    let find = |row: usize, text: &str| rows[row].find(text);
    let lengths: Vec<usize> = rows.iter().map(patchbay_graph::TokenRow::len).collect();
    let extents = || TokenRows::extents_of(&lengths, Packing::Channels { width: 1 });
    let resolve = |index: &str| Selection::new(&Index::parse(index).unwrap(), extents(), Some(&find));
    assert_eq!(resolve("[:, ' France']").unwrap().tokens(1), [vec![3], vec![2]]);
    assert_eq!(resolve("[:, [' France', 0]]").unwrap().tokens(1), [vec![0, 3], vec![0, 2]]);
    assert_eq!(resolve("[1, ' is']").unwrap().tokens(1), [vec![], vec![1]]);
    assert_eq!(resolve("[:, ' and']").unwrap_err().code, Code::TextNotFound);
    assert_eq!(resolve("[' and']").unwrap_err().code, Code::BadIndex);
    assert_eq!(resolve("[:, '']").unwrap_err().code, Code::TextNotFound);
}

#[test]
fn places_listed_twice_are_named_twice() {
    let extents = TokenRows::extents_of(&[3], Packing::Channels { width: 2 });
    let twice = select("[:, [0, 0, -3]]", extents).unwrap();
    let blocks = twice.blocks(&packed(Packing::Channels { width: 2 }, &[3]));
    assert_eq!((blocks.size, blocks.index.as_slice()), (2, [0, 0, 0].as_slice()));
    assert_eq!(twice.tokens(1), [[0]]);
}
