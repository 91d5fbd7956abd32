//! Models with random weights, and traces on them.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use patchbay_checkpoint::{Checkpoint, Config, HubSettings, Source, open};
use patchbay_engine::{Cancel, Job, Order};
use patchbay_graph::{
    Context, DType, InputRow, Limits, Plan, Problem, Request, Store, TokenRow, TokenRows, Tree, check,
};
use patchbay_model::{Decoder, LoadOptions, describe};
use serde_json::{Value, json};

/// LLaMA's block.
pub(crate) fn llama() -> Model {
    load(&json!({"model_type": "llama", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 2048}))
}

/// GPT-2's block: biases, learned positions, no gate.
pub(crate) fn gpt2() -> Model {
    load(&json!({"model_type": "gpt2", "n_embd": 256, "n_head": 4, "n_layer": 4, "n_inner": 1024,
        "vocab_size": 2048, "n_positions": 2048}))
}

/// Gemma 3's: norms on heads and after each module, sliding windows.
pub(crate) fn gemma3() -> Model {
    load(&json!({"model_type": "gemma3_text", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 2048,
        "max_position_embeddings": 2048, "sliding_window": 128, "sliding_window_pattern": 2}))
}

/// Qwen 3's: norms on heads.
pub(crate) fn qwen3() -> Model {
    load(&json!({"model_type": "qwen3", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 2048,
        "max_position_embeddings": 2048}))
}

/// GPT-NeoX's: attention and MLP side by side, a part of each head rotated.
pub(crate) fn gpt_neox() -> Model {
    load(&json!({"model_type": "gpt_neox", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "vocab_size": 2048, "max_position_embeddings": 2048, "rotary_pct": 0.25,
        "use_parallel_residual": true}))
}

/// BLOOM's: no positions but a slope in the scores.
pub(crate) fn bloom() -> Model {
    load(&json!({"model_type": "bloom", "hidden_size": 256, "n_layer": 4, "n_head": 4, "vocab_size": 2048}))
}

/// Qwen 2's with experts: three of sixteen, and one that every token goes through.
pub(crate) fn qwen2_moe() -> Model {
    load(&json!({"model_type": "qwen2_moe", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 2048,
        "num_experts": 16, "num_experts_per_tok": 3, "moe_intermediate_size": 384,
        "shared_expert_intermediate_size": 512, "mlp_only_layers": [1]}))
}

/// DeepSeek 2's: queries, keys and values of latents, values narrower than keys.
pub(crate) fn deepseek_v2() -> Model {
    load(&json!({"model_type": "deepseek_v2", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "q_lora_rank": 96, "kv_lora_rank": 64, "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32, "v_head_dim": 48, "vocab_size": 2048, "max_position_embeddings": 2048,
        "n_routed_experts": 16, "num_experts_per_tok": 3, "moe_intermediate_size": 384, "n_shared_experts": 1,
        "first_k_dense_replace": 4}))
}

/// Llama 4's: chunks, and experts whose weight is a factor on their input.
pub(crate) fn llama4() -> Model {
    load(&json!({"model_type": "llama4_text", "hidden_size": 256, "intermediate_size": 384,
        "intermediate_size_mlp": 1024, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "vocab_size": 2048, "max_position_embeddings": 2048, "num_local_experts": 16,
        "num_experts_per_tok": 3, "interleave_moe_layer_step": 2, "no_rope_layer_interval": 2,
        "attention_chunk_size": 96}))
}

/// Apertus': norms on heads, and a learned activation without a gate.
pub(crate) fn apertus() -> Model {
    load(&json!({"model_type": "apertus", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 2048}))
}

/// gpt-oss': sinks, windows, and four of eight experts with biases.
pub(crate) fn gpt_oss() -> Model {
    load(&json!({"model_type": "gpt_oss", "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 2048,
        "num_local_experts": 8, "sliding_window": 128}))
}

/// A model of these settings, written to a folder with random weights and loaded from there.
fn load(config: &Value) -> Model {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let spec = describe(&Config::from_json("config.json", config.clone()).unwrap()).unwrap();
    let random = |(number, (name, shape)): (usize, (String, Vec<usize>))| {
        let count: usize = shape.iter().product();
        // a low-discrepancy sequence is random enough, and the same every time
        let data = (0..count).map(|i| ((i + 7919 * number) as f64 * 0.618_033_988_749_895).fract() as f32 - 0.5);
        (name, (Tensor::from_vec(data.collect(), shape, &Device::Cpu).unwrap() * 0.1).unwrap())
    };
    let tensors: HashMap<_, _> = spec.stored_shapes().into_iter().enumerate().map(random).collect();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let checkpoint: Checkpoint =
        open(&Source::Folder(folder.path().to_path_buf()), &HubSettings::default(), &|_| ()).unwrap();
    let load = |plain| Decoder::load(&checkpoint, &LoadOptions { plain, ..LoadOptions::default() }, &|_| ()).unwrap();
    Model { fast: load(false), plain: load(true) }
}

/// A model as the processor has it, and as other devices do.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) fast: Decoder,
    pub(crate) plain: Decoder,
}

/// Tensors by name.
#[derive(Default)]
pub(crate) struct Shelf(HashMap<String, Tensor>);

impl Shelf {
    pub(crate) fn with(mut self, name: &str, shape: &[usize]) -> Self {
        self.0.insert(name.to_owned(), Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap());
        self
    }
}

impl Store for Shelf {
    fn describe(&self, name: &str, _: Option<&str>) -> Result<(DType, Vec<usize>), Problem> {
        Ok((DType::F32, self.0[name].dims().to_vec()))
    }
}

/// Rows of so many tokens, as an input.
pub(crate) fn rows(lengths: &[usize]) -> Value {
    let row = |(number, length): (usize, &usize)| -> Vec<usize> {
        (0..*length).map(|token| (token * 31 + number * 7) % 2048).collect()
    };
    lengths.iter().enumerate().map(row).collect::<Vec<_>>().into()
}

/// A checked trace with all that it needs.
pub(crate) fn job(tree: &Tree, body: &Value, shelf: &Shelf) -> Job {
    let request = Request::parse(body).unwrap_or_else(|problem| panic!("{problem:?}"));
    let ids = |row: &InputRow| match row {
        InputRow::Ids(ids) => ids.clone(),
        row => panic!("{row:?} is not for this test"),
    };
    let ids: Vec<Vec<Vec<u32>>> = request.inputs.iter().map(|input| input.rows.iter().map(ids).collect()).collect();
    let row = |ids: &Vec<u32>| TokenRow { text: String::new(), ends: vec![0; ids.len()], ..TokenRow::default() };
    let inputs: Vec<TokenRows> = request
        .inputs
        .iter()
        .zip(&ids)
        .map(|(input, rows)| TokenRows { name: input.name.clone(), rows: rows.iter().map(row).collect() })
        .collect();
    let context = Context { tree, inputs: &inputs, store: shelf, limits: &Limits::default() };
    let plan: Plan = check(&request, &context).unwrap_or_else(|problem| panic!("{problem:?}"));
    let tensors = shelf.0.iter().map(|(name, tensor)| ((name.clone(), None), tensor.clone())).collect();
    let (cancel, order) = (Cancel::default(), Order::default());
    Job { plan: Arc::new(plan), ids, tensors, histories: Vec::new(), cancel, order }
}
