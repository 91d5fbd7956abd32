//! Loading takes the memory of what is loaded and little more, whatever the checkpoint's types and layouts are.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests stop the test, as tests do")]

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use patchbay_checkpoint::{HubSettings, ProgressEvent, Source, open};
use patchbay_model::{Decoder, LoadOptions};
use serde_json::{Map, Value, json};

/// Where the child process finds its model.
const FOLDER: &str = "PATCHBAY_MEMORY_TEST";
/// How much more than the loaded model loading may hold.
const MOST: f64 = 1.2;

type Shapes = Vec<(String, Vec<usize>)>;

/// Writes a safetensors file of these tensors, and a configuration beside it.
fn write(folder: &Path, config: &Value, tensors: &Shapes, dtype: &str) {
    let width = if dtype == "F32" { 4 } else { 2 };
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * width;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(std::fs::File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let block: Vec<u8> = (0..1 << 20).map(|at| [1, 0x3C][at % 2]).collect();
    for start in (0..end).step_by(block.len()) {
        file.write_all(&block[..block.len().min(end - start)]).unwrap();
    }
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn named(layers: usize, tensors: &[(&str, &[usize])]) -> Shapes {
    let each = |layer: usize| {
        let name = move |(name, shape): &(&str, &[usize])| (name.replace('#', &layer.to_string()), shape.to_vec());
        tensors.iter().filter(move |(name, _)| layer == 0 || name.contains('#')).map(name)
    };
    (0..layers).flat_map(each).collect()
}

fn llama() -> (Value, Shapes) {
    let config = json!({"model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 8192, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false});
    let square: &[usize] = &[1024, 1024];
    let tensors = [
        ("model.embed_tokens.weight", &[8192, 1024][..]),
        ("lm_head.weight", &[8192, 1024]),
        ("model.norm.weight", &[1024]),
        ("model.layers.#.input_layernorm.weight", &[1024]),
        ("model.layers.#.post_attention_layernorm.weight", &[1024]),
        ("model.layers.#.self_attn.q_proj.weight", square),
        ("model.layers.#.self_attn.k_proj.weight", square),
        ("model.layers.#.self_attn.v_proj.weight", square),
        ("model.layers.#.self_attn.o_proj.weight", square),
        ("model.layers.#.mlp.gate_proj.weight", &[4096, 1024]),
        ("model.layers.#.mlp.up_proj.weight", &[4096, 1024]),
        ("model.layers.#.mlp.down_proj.weight", &[1024, 4096]),
        ("unused.weight", &[8192, 1024]),
    ];
    (config, named(2, &tensors))
}

/// Queries, keys and values in one tensor, and everything transposed.
fn gpt2() -> (Value, Shapes) {
    let config = json!({"model_type": "gpt2", "n_embd": 1024, "n_head": 8, "n_layer": 3, "n_positions": 64,
        "vocab_size": 4096, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": true});
    let tensors = [
        ("wte.weight", &[4096, 1024][..]),
        ("wpe.weight", &[64, 1024]),
        ("ln_f.weight", &[1024]),
        ("ln_f.bias", &[1024]),
        ("h.#.ln_1.weight", &[1024]),
        ("h.#.ln_1.bias", &[1024]),
        ("h.#.ln_2.weight", &[1024]),
        ("h.#.ln_2.bias", &[1024]),
        ("h.#.attn.c_attn.weight", &[1024, 3072]),
        ("h.#.attn.c_attn.bias", &[3072]),
        ("h.#.attn.c_proj.weight", &[1024, 1024]),
        ("h.#.attn.c_proj.bias", &[1024]),
        ("h.#.mlp.c_fc.weight", &[1024, 4096]),
        ("h.#.mlp.c_fc.bias", &[4096]),
        ("h.#.mlp.c_proj.weight", &[4096, 1024]),
        ("h.#.mlp.c_proj.bias", &[1024]),
    ];
    (config, named(3, &tensors))
}

/// Experts in one tensor, gate and up projections of each fused.
fn experts() -> (Value, Shapes) {
    let config = json!({"model_type": "granitemoe", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 1024, "max_position_embeddings": 128,
        "num_local_experts": 16, "num_experts_per_tok": 2, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": false, "embedding_multiplier": 1.0, "attention_multiplier": 0.1,
        "residual_multiplier": 1.0, "logits_scaling": 1.0, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}});
    let square: &[usize] = &[512, 512];
    let tensors = [
        ("model.embed_tokens.weight", &[1024, 512][..]),
        ("lm_head.weight", &[1024, 512]),
        ("model.norm.weight", &[512]),
        ("model.layers.#.input_layernorm.weight", &[512]),
        ("model.layers.#.post_attention_layernorm.weight", &[512]),
        ("model.layers.#.self_attn.q_proj.weight", square),
        ("model.layers.#.self_attn.k_proj.weight", square),
        ("model.layers.#.self_attn.v_proj.weight", square),
        ("model.layers.#.self_attn.o_proj.weight", square),
        ("model.layers.#.block_sparse_moe.router.layer.weight", &[16, 512]),
        ("model.layers.#.block_sparse_moe.input_linear.weight", &[16, 2048, 512]),
        ("model.layers.#.block_sparse_moe.output_linear.weight", &[16, 512, 1024]),
    ];
    (config, named(2, &tensors))
}

/// Memory of this process that no file is behind, in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Loads a model and says what that took, in a process of its own: others would be measured too.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let checkpoint = open(&Source::Folder(folder.into()), &HubSettings::default(), &|_| ()).unwrap();
    let begin = anonymous();
    let (peak, done) = (AtomicU64::new(begin), AtomicBool::new(false));
    let events: Mutex<Vec<ProgressEvent>> = Mutex::default();
    let decoder = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let watch = |event| events.lock().unwrap().push(event);
        let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &watch).unwrap();
        peak.fetch_max(anonymous(), Ordering::Relaxed);
        done.store(true, Ordering::Relaxed);
        decoder
    });
    let events = events.into_inner().unwrap();
    assert!(events.is_sorted_by_key(|event| event.done) && events.iter().all(|event| event.done <= event.total));
    assert!(events.iter().all(|event| event.total == decoder.bytes()), "the total is known from the first event on");
    assert_eq!(events.last().unwrap().done, decoder.bytes());
    assert_eq!(patchbay_model::parameters(decoder.spec(), &checkpoint.weights), decoder.parameters());
    println!("measured {} {}", peak.into_inner() - begin, decoder.bytes());
}

fn check((config, tensors): (Value, Shapes), dtype: &str) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, &tensors, dtype);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", "child", "--nocapture"]).env(FOLDER, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let measured = text.lines().find_map(|line| line.split("measured ").nth(1));
    let measured = measured.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> = measured.split(' ').map(|number| number.parse().unwrap()).collect();
    let (taken, loaded) = (numbers[0], numbers[1]);
    assert!(loaded > 1.5e8, "{loaded} bytes are too few to measure");
    assert!(taken > 0.9 * loaded, "only {taken} bytes were measured of {loaded}");
    assert!(taken < MOST * loaded, "{taken} bytes were taken for {loaded}, {}", taken / loaded);
}

#[test]
fn float32_of_float32() {
    check(llama(), "F32");
}

#[test]
fn float32_of_bfloat16() {
    check(llama(), "BF16");
}

#[test]
fn fused_and_transposed() {
    check(gpt2(), "F32");
    check(gpt2(), "F16");
}

#[test]
fn stacked_and_fused_experts() {
    check(experts(), "F32");
    check(experts(), "BF16");
}
