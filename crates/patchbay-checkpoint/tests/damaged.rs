//! Files that are cut off, changed or made to harm: always an error or a file that reads, never a panic.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::{fixture, open_path};
use proptest::prelude::*;

/// Opens a file of these bytes in the way its format is opened, and reads all there is.
fn try_all(format: &str, bytes: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = match format {
        "gguf" => folder.path().join("model.gguf"),
        _ => {
            std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
            folder.path().to_path_buf()
        }
    };
    let file = if format == "gguf" { path.clone() } else { path.join("model.safetensors") };
    std::fs::write(file, bytes).unwrap();
    read_all(&path)
}

fn read_all(path: &Path) -> Result<(), String> {
    let checkpoint = open_path(path).map_err(|error| error.to_string())?;
    for name in checkpoint.weights.names() {
        let shape = checkpoint.weights.shape(name).unwrap();
        checkpoint.weights.get(name, shape, DType::F32, &Device::Cpu).map_err(|error| error.to_string())?;
    }
    if let Some(tokenizer) = checkpoint.tokenizer {
        let encoding =
            tokenizer.encode("The capital of France is 123 é <s>", true).map_err(|error| error.to_string())?;
        tokenizer.describe_ids(&encoding.ids).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Files of each format and, of GGUF, with each way in which a tensor may be stored.
const FILES: [(&str, &str); 10] = [
    ("safetensors", "tiny-llama.safetensors"),
    ("gguf", "tiny-llama.gguf"),
    ("gguf", "blocks.gguf"),
    ("gguf", "../../../../tests/golden/gguf/apertus.gguf"),
    ("gguf", "../../../../tests/golden/gguf/dbrx.gguf"),
    ("gguf", "../../../../tests/golden/gguf/deepseek_v2.gguf"),
    ("gguf", "../../../../tests/golden/gguf/gpt_oss-mxfp4.gguf"),
    ("gguf", "../../../../tests/golden/gguf/llama4.gguf"),
    ("gguf", "../../../../tests/golden/gguf/granitemoe.gguf"),
    ("gguf", "../../../../tests/golden/gguf/falcon.gguf"),
];

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

#[test]
fn whole_files_read() {
    for (format, name) in FILES {
        try_all(format, &bytes(name)).unwrap();
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_that_names_it() {
    for (format, name) in FILES {
        let whole = bytes(name);
        // The last tensor of a GGUF file may end up to 31 bytes before the file does.
        let last = whole.len() - if format == "gguf" { 32 } else { 1 };
        let points = (0..64).chain((64..last).step_by(whole.len() / 60)).chain([last]);
        for length in points {
            let error = try_all(format, &whole[..length]).unwrap_err();
            assert!(error.contains(&format!("model.{format}")), "cut at {length}: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bytes of the header set to anything, the lengths and counts among them.
    #[test]
    fn changed_headers_never_panic(
        (format, name) in prop::sample::select(&FILES[..]),
        changes in prop::collection::vec((0_usize..4096, any::<u8>()), 1..4),
    ) {
        let mut changed = bytes(name);
        for (at, byte) in changes {
            changed[at] = byte;
        }
        let _ = try_all(format, &changed);
    }

    /// Eight bytes of the header set to a huge or an awkward number.
    #[test]
    fn lying_lengths_never_panic(
        (format, name) in prop::sample::select(&FILES[..]),
        at in 0_usize..12_000,
        lie in prop::sample::select(vec![0, 1, 1 << 31, 1 << 40, 1 << 61, 1 << 63, u64::MAX - 7, u64::MAX]),
    ) {
        let mut changed = bytes(name);
        let at = at % (changed.len() - 8);
        changed[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        let _ = try_all(format, &changed);
    }
}

/// A GGUF header, written by hand.
struct Header(Vec<u8>);

impl Header {
    fn new(tensors: u64, entries: u64) -> Self {
        Self([b"GGUF".as_slice(), &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes()].concat())
    }

    fn text(mut self, text: &str) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn error(self) -> String {
        try_all("gguf", &self.0).unwrap_err()
    }
}

#[test]
fn huge_counts_are_refused_before_anything_is_reserved_for_them() {
    assert!(Header::new(u64::MAX, 0).error().contains("cannot fit"));
    assert!(Header::new(0, 1 << 40).error().contains("cannot fit"));
    let list = Header::new(0, 1).text("tokenizer.ggml.tokens").u32(9).u32(8).u64(1 << 60);
    assert!(list.error().contains("a list of 1152921504606846976 elements"));
    let text = Header::new(0, 1).text("general.name").u32(8).u64(u64::MAX);
    assert!(text.error().contains("cut off"));
}

#[test]
fn alignments_and_shapes_that_cannot_be_are_refused() {
    for alignment in [0, 1, 24, 1 << 30] {
        let header = Header::new(0, 1).text("general.alignment").u32(4).u32(alignment).u64(0);
        assert!(header.error().contains("general.alignment"), "{alignment}");
    }
    let shape = |sizes: &[u64]| {
        let header = Header::new(1, 0).text("token_embd.weight").u32(sizes.len() as u32);
        sizes.iter().fold(header, |header, &size| header.u64(size)).u32(0).u64(0).error()
    };
    assert!(shape(&[1 << 40, 1 << 40]).contains("cannot have shape"));
    assert!(shape(&[0]).contains("cannot have shape"));
    assert!(shape(&[1 << 20]).contains("cut off or damaged"));
    assert!(shape(&[1; 5]).contains("5 axes"));
}

#[test]
fn tensors_that_share_bytes_or_names_are_refused() {
    let two = |first: &str, second: &str| {
        let header = Header::new(2, 0).text(first).u32(1).u64(8).u32(0).u64(0);
        let mut header = header.text(second).u32(1).u64(8).u32(0).u64(if first == second { 32 } else { 0 });
        header.0.extend([0; 128]);
        header.error()
    };
    assert!(two("a", "b").contains("tensors `a` and `b` overlap"));
    assert!(two("a", "a").contains("`a` is listed twice"));
}

#[test]
fn unknown_architectures_and_block_formats_say_what_is_known() {
    let header = Header::new(0, 1).text("general.architecture").u32(8).text("martian").u64(0);
    let error = header.error();
    assert!(error.contains("\"martian\"") && error.contains("llama") && error.contains("gpt2"), "{error}");
    let error = Header::new(1, 0).text("token_embd.weight").u32(1).u64(256).u32(18).u64(0).error();
    assert!(error.contains("ggml type 18") && error.contains("Q4_K"), "{error}");
}

#[test]
fn lists_nested_without_end_are_refused() {
    let header = Header::new(0, 1).text("deep").u32(9);
    let nested = (0..1000).fold(header, |header, _| header.u32(9).u64(1));
    assert!(nested.error().contains("lists within lists"));
}

#[test]
fn safetensors_whose_offsets_leave_the_file_are_refused() {
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0; 16]].concat();
    for json in [
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,160]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"XYZ","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
    ] {
        let error = try_all("safetensors", &header(json)).unwrap_err();
        assert!(error.contains("not a whole safetensors file"), "{json}: {error}");
    }
}
