//! The architectures: one file each, a function from `config.json` to a [`Spec`].
//!
//! To add one, write such a function, in Hugging Face's words (which settings the type has, with which defaults, and
//! how the weights are named), and give it a row in the table below. Nothing else in the crate has to change as long
//! as the [`Spec`] can say what is special about it.

mod bloom;
mod cohere;
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
mod gptj;
mod granite;
mod granitemoe;
mod hunyuan;
mod llama;
mod mistral;
mod mixtral;
mod mpt;
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
    ("bloom", bloom::bloom),
    ("cohere", cohere::cohere),
    ("cohere2", cohere::cohere2),
    ("ernie4_5", ernie4_5::ernie4_5),
    ("ernie4_5_moe", ernie4_5::ernie4_5_moe),
    ("exaone4", exaone4::exaone4),
    ("falcon", falcon::falcon),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3_text", gemma::gemma3_text),
    ("glm", glm::glm),
    ("glm4", glm::glm4),
    ("glm4_moe", glm4_moe::glm4_moe),
    ("gpt2", gpt2::gpt2),
    ("gpt_bigcode", gpt_bigcode::gpt_bigcode),
    ("gpt_neo", gpt_neo::gpt_neo),
    ("gpt_neox", gpt_neox::gpt_neox),
    ("gptj", gptj::gptj),
    ("granite", granite::granite),
    ("granitemoe", granitemoe::granitemoe),
    ("hunyuan_v1_dense", hunyuan::hunyuan_v1_dense),
    ("llama", llama::llama),
    ("mistral", mistral::mistral),
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
    use serde_json::json;

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
}
