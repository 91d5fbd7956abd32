//! The architectures: one file each, a function from `config.json` to a [`Spec`].
//!
//! To add one, write such a function, in Hugging Face's words (which settings the type has, with which defaults, and
//! how the weights are named), and give it a row in the table below. Nothing else in the crate has to change as long
//! as the [`Spec`] can say what is special about it.

mod apertus;
mod bloom;
mod cohere;
mod dbrx;
mod deepseek;
mod ernie4_5;
mod exaone4;
mod experts;
mod falcon;
mod gemma;
mod glm;
mod glm4_moe;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod granitemoe;
mod hunyuan;
mod llama;
mod llama4;
mod ministral3;
mod mistral;
mod mixtral;
mod mpt;
mod multimodal;
mod nemotron;
mod olmo;
mod olmoe;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod qwen_moe;
mod rotary;
mod seed_oss;
mod settings;
mod smollm3;
mod stablelm;
mod starcoder2;

use patchbay_checkpoint::{CheckpointError, Config};

use crate::error::LoadError;
use crate::spec::Spec;

/// Reads one architecture's configuration.
type Describe = fn(&Config) -> Result<Spec, CheckpointError>;

/// Every architecture, by its `model_type`.
const ARCHITECTURES: &[(&str, Describe)] = &[
    ("apertus", apertus::apertus),
    ("bloom", bloom::bloom),
    ("cohere", cohere::cohere),
    ("cohere2", cohere::cohere2),
    ("dbrx", dbrx::dbrx),
    ("deepseek_v2", deepseek::deepseek_v2),
    ("deepseek_v3", deepseek::deepseek_v3),
    ("ernie4_5", ernie4_5::ernie4_5),
    ("ernie4_5_moe", ernie4_5::ernie4_5_moe),
    ("exaone4", exaone4::exaone4),
    ("falcon", falcon::falcon),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3", multimodal::gemma3),
    ("gemma3_text", gemma::gemma3_text),
    ("glm", glm::glm),
    ("glm4", glm::glm4),
    ("glm4_moe", glm4_moe::glm4_moe),
    ("gpt2", gpt2::gpt2),
    ("gpt_bigcode", gpt_bigcode::gpt_bigcode),
    ("gpt_neo", gpt_neo::gpt_neo),
    ("gpt_neox", gpt_neox::gpt_neox),
    ("gpt_oss", gpt_oss::gpt_oss),
    ("gptj", gptj::gptj),
    ("granite", granite::granite),
    ("granitemoe", granitemoe::granitemoe),
    ("hunyuan_v1_dense", hunyuan::hunyuan_v1_dense),
    ("llama", llama::llama),
    ("llama4", multimodal::llama4),
    ("llama4_text", llama4::llama4_text),
    ("ministral3", ministral3::ministral3),
    ("mistral", mistral::mistral),
    ("mistral3", multimodal::mistral3),
    ("mixtral", mixtral::mixtral),
    ("mpt", mpt::mpt),
    ("nemotron", nemotron::nemotron),
    ("olmo", olmo::olmo),
    ("olmo2", olmo::olmo2),
    ("olmo3", olmo::olmo3),
    ("olmoe", olmoe::olmoe),
    ("opt", opt::opt),
    ("phi", phi::phi),
    ("phi3", phi3::phi3),
    ("qwen2", qwen::qwen2),
    ("qwen2_moe", qwen_moe::qwen2_moe),
    ("qwen3", qwen::qwen3),
    ("qwen3_moe", qwen_moe::qwen3_moe),
    ("seed_oss", seed_oss::seed_oss),
    ("smollm3", smollm3::smollm3),
    ("stablelm", stablelm::stablelm),
    ("starcoder2", starcoder2::starcoder2),
];

/// The `model_type`s that can be loaded.
pub fn supported_model_types() -> Vec<&'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name).collect()
}

/// The description of the model that a configuration stands for.
///
/// # Errors
/// [`LoadError::UnknownModelType`], or a setting that is missing or impossible.
pub fn describe(config: &Config) -> Result<Spec, LoadError> {
    let found = config.model_type()?;
    let Some((_, describe)) = ARCHITECTURES.iter().find(|(name, _)| *name == found) else {
        let similarity = |name: &str| strsim::jaro_winkler(name, found);
        let nearest = supported_model_types().into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        return Err(LoadError::UnknownModelType {
            file: config.file().to_path_buf(),
            found: found.to_owned(),
            nearest: nearest.filter(|name| similarity(name) > 0.8),
            supported: supported_model_types(),
        });
    };
    Ok(describe(config)?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_unknown_type_names_itself_the_nearest_and_all_supported() {
        let config = Config::from_json("m/config.json", json!({"model_type": "lama"})).unwrap();
        let message = describe(&config).unwrap_err().to_string();
        assert!(message.contains("m/config.json") && message.contains("\"lama\""), "{message}");
        assert!(message.contains("did you mean \"llama\"?") && message.contains("gpt2"), "{message}");
        let config = Config::from_json("m/config.json", json!({"model_type": "t5"})).unwrap();
        assert!(!describe(&config).unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn dynamic_scaling_of_one_of_two_rotations_goes_beyond_the_context() {
        for model_type in ["gemma3_text", "olmo3"] {
            let config = json!({"model_type": model_type, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 16, "max_position_embeddings": 5,
                "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 50},
                    "full_attention": {"rope_type": "dynamic", "rope_theta": 50, "factor": 2.5}}});
            let spec = describe(&Config::from_json("config.json", config).unwrap()).unwrap();
            assert_eq!(spec.context, 12, "{model_type}");
        }
    }

    #[test]
    fn the_first_gemmas_mean_the_approximation_and_no_other_name_does() {
        use crate::spec::{Activation, ActivationSpec, FeedForward};

        for (name, expected) in
            [("gelu", Activation::GeluTanh), ("gelu_python", Activation::GeluErf), ("gelu_new", Activation::GeluTanh)]
        {
            let config = json!({"model_type": "gemma", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 16, "hidden_act": name});
            let mut spec = describe(&Config::from_json("config.json", config).unwrap()).unwrap();
            let FeedForward::Mlp(mlp) = spec.layers.remove(0).mlp else { panic!("{name}: experts") };
            assert_eq!(mlp.activation, ActivationSpec::Fixed(expected), "{name}");
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let base = json!({"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 16});
        for (key, value) in [
            ("hidden_size", json!(0)),
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(5)),
            ("num_key_value_heads", json!(3)),
            ("num_hidden_layers", json!(1e9 as u64)),
            ("vocab_size", json!(u64::MAX)),
            ("head_dim", json!(7)),
            ("hidden_act", json!("swoosh")),
            ("rope_scaling", json!({"rope_type": "helix", "factor": 2})),
            ("rope_scaling", json!({"rope_type": "linear"})),
            ("rms_norm_eps", json!("small")),
        ] {
            let mut changed = base.clone();
            changed[key] = value;
            let error = describe(&Config::from_json("config.json", changed).unwrap()).unwrap_err().to_string();
            assert!(error.contains("must be"), "{key}: {error}");
        }
        assert!(describe(&Config::from_json("config.json", base).unwrap()).is_ok());
    }

    /// Every change of a configuration that must be refused, with the key that the error has to name.
    fn refused(base: &Value, changes: &[(&str, Value, &str)]) {
        let describe = |config| describe(&Config::from_json("config.json", config).unwrap());
        assert!(describe(base.clone()).is_ok(), "{base}");
        for (pointer, value, named) in changes {
            let mut changed = base.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match value.as_str() {
                Some("absent") => parent.remove(key),
                _ => parent.insert(key.to_owned(), value.clone()),
            };
            let error = describe(changed).map(|_| ()).expect_err(pointer).to_string();
            assert!(error.contains(&format!("`{named}` is")) && error.contains("must be"), "{pointer}: {error}");
        }
    }

    /// Each type's own settings: the key that the error names, and what makes it wrong.
    #[test]
    fn impossible_settings_of_their_own_name_their_key() {
        let sizes = json!({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 16});
        let yarn = |beta: Value| json!({"rope_type": "yarn", "factor": 2, "llama_4_scaling_beta": beta});
        let text = |more: Value| merged(merged(sizes.clone(), json!({"model_type": "mistral"})), more);
        for (model_type, more, key) in [
            ("apertus", json!({"hidden_act": "swoosh"}), "hidden_act"),
            ("apertus", json!({"vocab_size": null}), "vocab_size"),
            ("ministral3", json!({"rope_parameters": yarn(Value::Null)}), "rope_parameters.llama_4_scaling_beta"),
            ("ministral3", json!({"rope_parameters": yarn(json!("steep"))}), "rope_parameters.llama_4_scaling_beta"),
            (
                "ministral3",
                json!({"rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}}),
                "rope_parameters.original_max_position_embeddings",
            ),
            ("gpt_oss", json!({"swiglu_limit": 0}), "swiglu_limit"),
            ("gpt_oss", json!({"num_local_experts": 0}), "num_local_experts"),
            ("gpt_oss", json!({"num_local_experts": 2000}), "num_local_experts"),
            ("gpt_oss", json!({"num_local_experts": 3, "num_experts_per_tok": 4}), "num_experts_per_tok"),
            ("gpt_oss", json!({"layer_types": ["full_attention"]}), "layer_types"),
            ("gpt_oss", json!({"sliding_window": 0}), "sliding_window"),
            ("gemma3", json!({}), "text_config"),
            ("gemma3", json!({"text_config": "small"}), "text_config"),
            ("gemma3", json!({"text_config": {"hidden_size": 0}}), "text_config.hidden_size"),
            ("gemma3", json!({"text_config": {"layer_types": []}}), "text_config.layer_types"),
            ("mistral3", json!({"text_config": text(json!({"model_type": "mistral3"}))}), "text_config.model_type"),
            ("mistral3", json!({"text_config": text(json!({"model_type": "t5"}))}), "text_config.model_type"),
            ("mistral3", json!({"text_config": text(json!({"vocab_size": 0}))}), "text_config.vocab_size"),
            ("mistral3", json!({"text_config": text(json!({})), "tie_word_embeddings": 1}), "tie_word_embeddings"),
        ] {
            let config = merged(merged(sizes.clone(), json!({"model_type": model_type})), more);
            let error = describe(&Config::from_json("config.json", config).unwrap()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")) && error.contains("must be"), "{model_type} {key}: {error}");
        }
    }

    #[test]
    fn impossible_dbrx_is_refused() {
        let base = json!({"model_type": "dbrx", "d_model": 16, "n_heads": 4, "n_layers": 2, "vocab_size": 16,
            "attn_config": {"kv_n_heads": 2}, "ffn_config": {"ffn_hidden_size": 8, "moe_num_experts": 4}});
        refused(
            &base,
            &[
                ("/attn_config", json!("absent"), "attn_config"),
                ("/ffn_config", json!(7), "ffn_config"),
                ("/n_heads", json!(3), "n_heads"),
                ("/attn_config/kv_n_heads", json!(3), "attn_config.kv_n_heads"),
                ("/attn_config/kv_n_heads", json!(0), "attn_config.kv_n_heads"),
                ("/attn_config/clip_qkv", json!(-1), "attn_config.clip_qkv"),
                ("/ffn_config/ffn_hidden_size", json!("absent"), "ffn_config.ffn_hidden_size"),
                ("/ffn_config/moe_num_experts", json!(1e9 as u64), "ffn_config.moe_num_experts"),
                ("/ffn_config/moe_top_k", json!(5), "ffn_config.moe_top_k"),
                ("/ffn_config/ffn_act_fn", json!({"name": "swoosh"}), "ffn_config.ffn_act_fn.name"),
                ("/ffn_config/moe_normalize_expert_weights", json!(0), "ffn_config.moe_normalize_expert_weights"),
                ("/tie_word_embeddings", json!(true), "tie_word_embeddings"),
            ],
        );
    }

    #[test]
    fn impossible_latent_attention_is_refused() {
        let base = json!({"model_type": "deepseek_v3", "hidden_size": 16, "intermediate_size": 8, "vocab_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "moe_intermediate_size": 8,
            "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2, "q_lora_rank": 6,
            "kv_lora_rank": 6, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4,
            "max_position_embeddings": 64, "topk_method": "group_limited_greedy"});
        let both = [
            ("/num_key_value_heads", json!(2), "num_key_value_heads"),
            ("/q_lora_rank", json!(0), "q_lora_rank"),
            ("/kv_lora_rank", json!(u64::MAX), "kv_lora_rank"),
            ("/qk_nope_head_dim", json!(0), "qk_nope_head_dim"),
            ("/v_head_dim", json!("wide"), "v_head_dim"),
            ("/n_group", json!(3), "n_group"),
            ("/topk_group", json!(5), "topk_group"),
            ("/num_experts_per_tok", json!(9), "num_experts_per_tok"),
            ("/moe_intermediate_size", json!("absent"), "moe_intermediate_size"),
            ("/rope_scaling", json!({"rope_type": "yarn", "mscale_all_dim": 1}), "rope_scaling.factor"),
        ];
        refused(&base, &both);
        refused(&base, &[("/n_group", json!(8), "n_group"), ("/topk_group", json!(0), "topk_group")]);
        let mut second = base;
        second["model_type"] = json!("deepseek_v2");
        refused(&second, &both);
        refused(
            &second,
            &[
                ("/topk_method", json!("noaux_tc"), "topk_method"),
                ("/n_group", json!("absent"), "n_group"),
                ("/num_experts_per_tok", json!("absent"), "num_experts_per_tok"),
            ],
        );
    }

    #[test]
    fn impossible_llama4_is_refused() {
        let base = json!({"model_type": "llama4_text", "hidden_size": 16, "intermediate_size": 8, "vocab_size": 16,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4});
        refused(
            &base,
            &[
                ("/attention_chunk_size", json!(null), "attention_chunk_size"),
                ("/attention_chunk_size", json!(0), "attention_chunk_size"),
                ("/no_rope_layers", json!([1, 0]), "no_rope_layers"),
                ("/no_rope_layers", json!("all"), "no_rope_layers"),
                ("/no_rope_layer_interval", json!(0), "no_rope_layer_interval"),
                ("/layer_types", json!(["full_attention"]), "layer_types"),
                ("/layer_types", json!(["full_attention", "sliding_attention", "full_attention"]), "layer_types"),
                ("/moe_layers", json!({"0": 1}), "moe_layers"),
                ("/interleave_moe_layer_step", json!(0), "interleave_moe_layer_step"),
                ("/floor_scale", json!(0), "floor_scale"),
                ("/num_experts_per_tok", json!(17), "num_experts_per_tok"),
                ("/intermediate_size_mlp", json!(0), "intermediate_size_mlp"),
            ],
        );
    }

    #[test]
    fn an_empty_rope_scaling_says_nothing() {
        let config = json!({"model_type": "apertus", "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 16});
        let rotary = |more| {
            let config = Config::from_json("config.json", merged(config.clone(), more)).unwrap();
            format!("{:?}", describe(&config).unwrap().layers[0].attention.rotary)
        };
        let scaled = rotary(json!({}));
        assert_eq!(rotary(json!({"rope_scaling": {}})), scaled);
        assert_ne!(rotary(json!({"rope_parameters": {}})), scaled);
        let given = json!({"rope_theta": 50.0, "rope_type": "linear", "factor": 2.0});
        let both = rotary(json!({"rope_scaling": {}, "rope_parameters": given}));
        assert_eq!(both, rotary(json!({"rope_parameters": given})));
    }

    #[test]
    fn only_the_decoder_alone_of_gemma3_caps_its_logits() {
        let text = json!({"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 16, "final_logit_softcapping": 5.0});
        let cap =
            |config| describe(&Config::from_json("config.json", config).unwrap()).unwrap().head.transform.soft_cap;
        assert_eq!(cap(json!({"model_type": "gemma3", "text_config": text})), None);
        assert_eq!(cap(merged(text, json!({"model_type": "gemma3_text"}))), Some(5.0));
    }

    #[test]
    fn a_short_text_section_has_the_sizes_of_its_type() {
        // What google/gemma-3-4b-it says of its text part.
        let text = json!({"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024});
        let config = json!({"model_type": "gemma3", "text_config": text});
        let spec = describe(&Config::from_json("config.json", config).unwrap()).unwrap();
        let attention = &spec.layers[5].attention;
        assert_eq!((spec.vocab, spec.layers.len(), spec.model_type.as_str()), (262_208, 34, "gemma3"));
        assert_eq!((attention.heads, attention.kv_heads, attention.head_dim, attention.window), (8, 4, 256, None));
        assert_eq!(spec.head.weight, spec.embedding.weight);
        assert_eq!(
            spec.stored_names("model.norm.weight"),
            ["model.language_model.norm.weight", "language_model.model.norm.weight", "language_model.norm.weight"]
        );
        for (name, claimed) in [
            ("language_model.model.norm.weight", true),
            ("model.language_model.norm.weight", true),
            ("lm_head.weight", true),
            ("vision_tower.post_layernorm.weight", false),
            ("model.multi_modal_projector.linear_1.weight", false),
            ("language_models.norm.weight", false),
        ] {
            assert_eq!(spec.claims(name), claimed, "{name}");
        }
    }

    fn merged(mut base: Value, more: Value) -> Value {
        if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
            base.extend(more);
        }
        base
    }
}
