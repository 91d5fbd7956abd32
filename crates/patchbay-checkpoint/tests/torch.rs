//! `pytorch_model.bin`: what PyTorch wrote reads as PyTorch reads it, and what was made to harm is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::{fixture, open_path};
use proptest::prelude::*;

/// A folder with these files beside its configuration.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn whole() -> Vec<u8> {
    std::fs::read(fixture("torch.bin")).unwrap()
}

/// Opens a folder and reads every tensor.
fn read_all(folder: &Path) -> Result<(), String> {
    let weights = open_path(folder).map_err(|error| error.to_string())?.weights;
    for name in weights.names() {
        let shape = weights.shape(name).unwrap();
        weights.get(name, shape, DType::F32, &Device::Cpu).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn error(bytes: &[u8]) -> String {
    read_all(folder(&[("pytorch_model.bin", bytes)]).path()).unwrap_err()
}

/// The file with one text in it replaced by another of the same length.
fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = whole();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn every_view_and_type_reads_as_pytorch_reads_it() {
    check_numbers(folder(&[("pytorch_model.bin", &whole())]).path());
}

#[test]
fn two_shards_read_as_one_file() {
    let files = common::torch_shards();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    check_numbers(folder(&files).path());
    for lacking in 0..2 {
        let mut files = files.clone();
        let (name, _) = files.remove(lacking);
        let error = read_all(folder(&files).path()).unwrap_err();
        assert!(error.contains(&format!("no {name}")), "{error}");
    }
}

/// Holds the weights of a folder against the numbers that PyTorch wrote beside them.
fn check_numbers(folder: &Path) {
    let weights = open_path(folder).unwrap().weights;
    let expected = candle_core::safetensors::load(fixture("torch.safetensors"), &Device::Cpu).unwrap();
    let mut names: Vec<&str> = expected.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(weights.names().collect::<Vec<_>>(), names);
    for (name, expected) in &expected {
        let found = weights.get(name, expected.dims(), DType::F32, &Device::Cpu).unwrap();
        let numbers = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers(&found), numbers(expected), "{name}");
    }
}

#[test]
fn shards_are_found_by_their_index_and_safetensors_come_first() {
    let index = br#"{"weight_map": {"tied": "pytorch_model-1.bin", "half": "pytorch_model-1.bin"}}"#;
    let with_index = [("pytorch_model.bin.index.json", &index[..]), ("pytorch_model-1.bin", &whole())];
    read_all(folder(&with_index).path()).unwrap();
    let lacking = br#"{"weight_map": {"tied": "pytorch_model-2.bin"}}"#;
    let error = read_all(folder(&[("pytorch_model.bin.index.json", &lacking[..])]).path()).unwrap_err();
    assert!(error.contains("no pytorch_model-2.bin"), "{error}");
    let safe = std::fs::read(fixture("torch.safetensors")).unwrap();
    let both = folder(&[("model.safetensors", &safe), ("pytorch_model.bin", b"not read")]);
    read_all(both.path()).unwrap();
}

#[test]
fn an_index_cannot_reach_out_of_its_folder() {
    for shard in
        ["../x.bin", "/tmp/x.bin", "sub/x.bin", "..\\\\x.bin", "C:x.bin", "x\\u0000.bin", ".bin", "x.safetensors"]
    {
        let index = format!(r#"{{"weight_map": {{"tied": "{shard}"}}}}"#);
        let error = read_all(folder(&[("pytorch_model.bin.index.json", index.as_bytes())]).path()).unwrap_err();
        assert!(error.contains("pytorch_model.bin.index.json: `weight_map.tied`"), "{shard}: {error}");
        assert!(error.contains("a .bin file in the same folder"), "{shard}: {error}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_that_names_it() {
    let whole = whole();
    for length in (0..whole.len()).step_by(37) {
        let error = error(&whole[..length]);
        assert!(error.contains("pytorch_model.bin"), "cut at {length}: {error}");
    }
}

#[test]
fn names_that_run_something_are_refused() {
    let error = error(&replaced(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cposix_system\n_rebuild_tensor_v2\n"));
    assert!(
        error.contains("`posix_system._rebuild_tensor_v2`") && error.contains("nothing of the file is run"),
        "{error}"
    );
}

#[test]
fn views_outside_of_their_storage_are_refused() {
    // The offset of `rows`, then its sizes; K is a number of one byte.
    let error = error(&replaced(b"K\x08K\x02K\x04\x86", b"K\xffK\x02K\x04\x86"));
    assert!(error.contains("tensor `rows`") && error.contains("at element 255"), "{error}");
}

#[test]
fn types_that_are_not_read_are_named() {
    let error = error(&replaced(b"HalfStorage", b"CharStorage"));
    assert!(error.contains("tensor `half` is stored as CharStorage"), "{error}");
}

#[test]
fn what_is_no_archive_or_a_packed_one_is_refused() {
    assert!(error(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.").contains("no zip archive"));
    // Compression methods stand at byte 8 of a local header and at byte 10 of a central one.
    let mut packed = whole();
    let central = packed.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    packed[central + 10] = 8;
    assert!(error(&packed).contains("packed"));
    let mut lying = whole();
    let sizes = central + 20..central + 28;
    lying[sizes].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]);
    assert!(error(&lying).contains("2147483647 bytes"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = whole();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_all(folder(&[("pytorch_model.bin", &bytes)]).path());
    }
}
