//! The decoder's promises, on tiny models of every architecture with random weights.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use patchbay_checkpoint::{Checkpoint, Config, HubSettings, Source, open};
use patchbay_graph::{LayerSite, Site};
use patchbay_model::spec::Spec;
use patchbay_model::{
    Decoder, LoadOptions, NoMemory, NoTap, Run, Segment, Segments, Tap, describe, run_checks, supported_model_types,
};
use serde_json::{Value, json};

const IDS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 8];

/// A configuration of each supported type with its unusual options switched on.
fn configs() -> Vec<Value> {
    let llama = |model_type: &str, more: Value| {
        let mut config = json!({"model_type": model_type, "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10,
            "vocab_size": 17, "max_position_embeddings": 64});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let mut configs = vec![
        llama("llama", json!({"attention_bias": true, "mlp_bias": true})),
        llama("mistral", json!({"sliding_window": 3, "tie_word_embeddings": true})),
        llama("qwen2", json!({"use_sliding_window": true, "sliding_window": 2, "max_window_layers": 1})),
        llama("qwen3", json!({})),
        llama("gemma3_text", json!({"sliding_window": 2, "sliding_window_pattern": 2, "final_logit_softcapping": 5.0})),
        json!({"model_type": "gpt2", "n_embd": 24, "n_head": 3, "n_layer": 3, "n_inner": 20, "vocab_size": 17,
            "n_positions": 64}),
    ];
    for config in golden() {
        if configs.iter().all(|known| known["model_type"] != config["model_type"]) {
            configs.push(config);
        }
    }
    configs
}

/// The configurations of the golden models, in the order of their folders' names.
fn golden() -> Vec<Value> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let files = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path().join("config.json"));
    let mut files: Vec<_> = files.filter(|file| file.is_file()).collect();
    files.sort();
    files.iter().map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()).collect()
}

/// A model of these settings, written to disk with random weights and loaded from there.
fn model(config: &Value) -> Decoder {
    let checkpoint = checkpoint(config, |_| true);
    Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ()).unwrap()
}

/// What a decoder's tensor is called in a checkpoint: its name in the spec, or that in a checkpoint that holds more.
fn stored_name(spec: &Spec, name: &str) -> String {
    spec.stored_names(name).swap_remove(0)
}

fn checkpoint(config: &Value, keep: impl Fn(&str) -> bool) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let spec = describe(&Config::from_json("config.json", config.clone()).unwrap()).unwrap();
    let tensors: HashMap<_, _> = spec
        .stored_shapes()
        .into_iter()
        .filter(|(name, _)| keep(name))
        .map(|(name, shape)| {
            let tensor = noise(&name, &shape);
            (stored_name(&spec, &name), tensor)
        })
        .collect();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    open(&Source::Folder(folder.path().to_path_buf()), &HubSettings::default(), &|_| ()).unwrap()
}

/// Normally distributed numbers that depend on a tensor's name alone.
fn noise(name: &str, shape: &[usize]) -> Tensor {
    let mut state = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let normal = |_| 0.3 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0);
    let count: usize = shape.iter().product();
    Tensor::from_vec((0..count).map(normal).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

/// Keeps the logits, and changes some sites on the way.
struct Changing<C> {
    wants: fn(Site) -> bool,
    change: C,
    logits: Vec<f32>,
}

impl<C: FnMut(Tensor) -> candle_core::Result<Tensor>> Tap for Changing<C> {
    fn wants(&self, site: Site) -> bool {
        site == Site::Logits || (self.wants)(site)
    }

    fn visit(&mut self, site: Site, value: Tensor) -> candle_core::Result<Tensor> {
        let value = if (self.wants)(site) { (self.change)(value)? } else { value };
        if site == Site::Logits {
            self.logits = value.flatten_all()?.to_vec1()?;
        }
        Ok(value)
    }
}

fn logits(decoder: &Decoder, ids: &[u32], lengths: &[usize]) -> Vec<f32> {
    changed(decoder, ids, lengths, |_| false, Ok)
}

fn changed(
    decoder: &Decoder,
    ids: &[u32],
    lengths: &[usize],
    wants: fn(Site) -> bool,
    change: impl FnMut(Tensor) -> candle_core::Result<Tensor>,
) -> Vec<f32> {
    let mut tap = Changing { wants, change, logits: Vec::new() };
    decoder.forward(ids, &Segments::from_lengths(lengths), &mut tap).unwrap();
    tap.logits
}

#[test]
fn every_architecture_is_tried_here() {
    let mut tried: Vec<_> = configs().iter().map(|config| config["model_type"].as_str().unwrap().to_owned()).collect();
    tried.sort();
    assert_eq!(tried, supported_model_types());
}

#[test]
fn fast_and_plain_kernels_agree() {
    for config in configs() {
        let decoder = model(&config);
        let (fast, plain) = (logits(&decoder, &IDS, &[5, 4]), logits(&decoder.differentiable(), &IDS, &[5, 4]));
        let largest = plain.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        for (fast, plain) in fast.iter().zip(&plain) {
            assert!((fast - plain).abs() <= 2e-5 * largest, "{config}: {fast} is not {plain}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone() {
    for config in configs() {
        let decoder = model(&config);
        let together = logits(&decoder, &IDS, &[2, 6, 1]);
        let alone = [&IDS[..2], &IDS[2..8], &IDS[8..]].map(|ids| logits(&decoder, ids, &[ids.len()])).concat();
        assert_eq!(together, alone, "{config}");
    }
}

#[test]
fn looking_and_writing_back_change_no_bit() {
    for config in configs() {
        let decoder = model(&config);
        let expected = logits(&decoder, &IDS, &[5, 4]);
        assert_eq!(changed(&decoder, &IDS, &[5, 4], |_| true, Ok), expected, "{config}: looking");
        let copy = |value: Tensor| value.affine(1.0, 0.0);
        assert_eq!(changed(&decoder, &IDS, &[5, 4], |_| true, copy), expected, "{config}: writing back");
    }
}

#[test]
fn a_write_at_any_site_reaches_the_logits() {
    for config in configs() {
        let decoder = model(&config);
        let expected = logits(&decoder, &IDS, &[5, 4]);
        for site in decoder.tree().sites() {
            struct Half(Site, Vec<f32>);
            impl Tap for Half {
                fn wants(&self, site: Site) -> bool {
                    site == self.0 || site == Site::Logits
                }
                fn visit(&mut self, site: Site, value: Tensor) -> candle_core::Result<Tensor> {
                    let value = if site == self.0 { (value * 0.5)? } else { value };
                    if site == Site::Logits {
                        self.1 = value.flatten_all()?.to_vec1()?;
                    }
                    Ok(value)
                }
            }
            let mut half = Half(site, Vec::new());
            decoder.forward(&IDS, &Segments::from_lengths(&[5, 4]), &mut half).unwrap();
            assert!(half.1.iter().all(|x| x.is_finite()), "{config}: {site}");
            assert_ne!(half.1, expected, "{config}: {site}");
        }
    }
}

#[test]
fn heads_add_up_to_the_output() {
    for config in configs() {
        let decoder = model(&config);
        let zeros = |value: Tensor| value.zeros_like();
        let without = |wants| changed(&decoder, &IDS, &[9], wants, zeros);
        let by_heads = without(|site| matches!(site, Site::Layer(1, LayerSite::Heads)));
        let by_z = without(|site| matches!(site, Site::Layer(1, LayerSite::Z)));
        for (heads, z) in by_heads.iter().zip(&by_z) {
            assert!((heads - z).abs() <= 1e-4, "{config}: {heads} is not {z}");
        }
    }
}

#[test]
fn checks_pass_on_every_architecture_and_gradients_reach_the_embedding() {
    for config in configs() {
        let decoder = model(&config);
        let report = run_checks(&decoder, None);
        assert!(report.checks.iter().all(|check| check.passed), "{config}: {report:?}");

        let decoder = decoder.differentiable();
        let segments = Segments::from_lengths(&[9]);
        let x = decoder.embed(&IDS, &segments, &mut NoTap).unwrap();
        let score = |x: &Tensor| {
            let mut x = x.clone();
            for layer in 0..decoder.tree().layers.len() {
                x = decoder.block(layer, x, &mut Run::whole(&segments, &mut NoMemory), &mut NoTap).unwrap();
            }
            decoder.project_on_vocab(&x, true).unwrap().get(8).unwrap().get(3).unwrap()
        };
        let leaf = candle_core::Var::from_tensor(&x).unwrap();
        let gradients = score(leaf.as_tensor()).backward().unwrap();
        let gradient = gradients.get(leaf.as_tensor()).unwrap();
        let size = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
        let step = gradient.broadcast_div(&size).unwrap().affine(4e-3, 0.0).unwrap();
        let value = |x: &Tensor| score(x).to_scalar::<f32>().unwrap();
        let slope = (value(&(&x + &step).unwrap()) - value(&(&x - &step).unwrap())) / 8e-3;
        let size: f32 = size.to_scalar().unwrap();
        assert!((slope - size).abs() <= 2e-2 * size, "{config}: slope {slope}, gradient {size}");
    }
}

#[test]
fn wrong_input_is_an_error() {
    let decoder = model(&configs()[5]);
    let run = |ids: &[u32], position| {
        let segments = Segments::new(vec![Segment { position, length: position + 2, ..Segment::whole(0, 2) }]);
        decoder.embed(ids, &segments, &mut NoTap).map(|_| ()).unwrap_err().to_string()
    };
    assert!(run(&[1, 17], 0).contains("ids are 0 to 16"));
    assert!(run(&[1, 2, 3], 0).contains("3 token ids were given for segments of 2"));
    assert!(run(&[1, 2], 63).contains("position 64 is outside the model's context of 64 tokens"));
    let x = Tensor::zeros((1, 24), candle_core::DType::F32, &Device::Cpu).unwrap();
    let segments = Segments::from_lengths(&[1]);
    let beyond = decoder.block(3, x, &mut Run::whole(&segments, &mut NoMemory), &mut NoTap).unwrap_err();
    assert!(beyond.to_string().contains("layers 0 to 2"), "{beyond}");
}

#[test]
fn a_missing_or_misshapen_tensor_names_itself_and_its_file() {
    let config = &configs()[0];
    let missing = "model.layers.1.mlp.up_proj.weight";
    let error = Decoder::load(&checkpoint(config, |name| name != missing), &LoadOptions::default(), &|_| ());
    let message = error.unwrap_err().to_string();
    assert!(message.contains(missing) && message.contains("model.safetensors"), "{message}");

    let mut checkpoint = checkpoint(config, |_| true);
    let mut wider = config.clone();
    wider["intermediate_size"] = json!(41);
    checkpoint.config = Config::from_json("config.json", wider).unwrap();
    let message = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ()).unwrap_err().to_string();
    assert!(message.contains("[40, 24]") && message.contains("[41, 24]"), "{message}");
}

#[test]
fn a_checkpoint_of_the_bare_model_loads_without_the_prefix() {
    let config = &configs()[5];
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let spec = describe(&Config::from_json("config.json", config.clone()).unwrap()).unwrap();
    let tensors: HashMap<_, _> = spec
        .stored_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let short = name.trim_start_matches("transformer.").to_owned();
            (short, Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap())
        })
        .collect();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let source = Source::Folder(folder.path().to_path_buf());
    let checkpoint = open(&source, &HubSettings::default(), &|_| ()).unwrap();
    assert!(Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ()).is_ok());
}

/// The experts' weights have names, also those that are parts of one stored tensor, and a mix of nothing is nothing.
#[test]
fn experts_have_names_and_the_mix_decides() {
    for config in golden().into_iter().filter(|config| config["model_type"] == "granitemoe") {
        let decoder = model(&config);
        let shape = |name: &str| decoder.weight(name).unwrap().unwrap().dims().to_vec();
        let size = |key: &str| usize::try_from(config[key].as_u64().unwrap()).unwrap();
        let (experts, hidden, width) = (size("num_local_experts"), size("hidden_size"), size("intermediate_size"));
        let last = experts - 1;
        assert_eq!(shape("layers.1.mlp.router"), [experts, hidden]);
        assert_eq!(shape(&format!("layers.1.mlp.experts.{last}.gate_proj")), [width, hidden]);
        assert_eq!(shape(&format!("layers.1.mlp.experts.{last}.down_proj")), [hidden, width]);
        let numbers =
            |name: &str| decoder.weight(name).unwrap().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let stored = noise("model.layers.1.block_sparse_moe.output_linear.weight", &[experts, hidden, width]);
        let stored = stored.get(3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers("layers.1.mlp.experts.3.down_proj"), stored);

        let mut nothing = Nothing(None);
        decoder.forward(&IDS, &Segments::from_lengths(&[IDS.len()]), &mut nothing).unwrap();
        assert!(nothing.0.unwrap().iter().all(|number| *number == 0.0));
    }
}

/// Gives no expert any weight in block 1, and keeps what comes out.
struct Nothing(Option<Vec<f32>>);

impl Tap for Nothing {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Layer(1, LayerSite::RouterProbs | LayerSite::MlpOutput))
    }

    fn visit(&mut self, site: Site, value: Tensor) -> candle_core::Result<Tensor> {
        if site == Site::Layer(1, LayerSite::RouterProbs) {
            return value.zeros_like();
        }
        self.0 = Some(value.flatten_all()?.to_vec1()?);
        Ok(value)
    }
}
