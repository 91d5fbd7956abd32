//! What a `config.json` says of how its weights are quantised, and whether patchbay reads that.
//!
//! It is asked before anything else is read or fetched: tensors of a form that is not read would be taken for plain
//! numbers, or be found missing one by one.

use serde_json::Value;

use crate::{CheckpointError, Config};

/// The quantisations of a folder that are read: weights of eight-bit floats with scales beside them, and MXFP4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quantization {
    /// Rows and columns that share a scale, where the configuration says it.
    pub(crate) block: Option<[usize; 2]>,
    /// Whether some weights are blocks of four-bit floats in place of eight-bit ones.
    pub(crate) mxfp4: bool,
}

impl Quantization {
    /// Reads `quantization_config`; nothing where there is none.
    ///
    /// # Errors
    /// [`CheckpointError::Quantized`], naming the method, for one that is not read; [`CheckpointError::Config`] for
    /// what makes no sense.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, CheckpointError> {
        let inside = config.section("text_config");
        let sections = ["quantization_config", "compression_config"];
        let find = |config: &Config| sections.iter().find_map(|name| config.section(name));
        let Some(section) = find(config).or_else(|| inside.as_ref().and_then(find)) else { return Ok(None) };
        let method = match section.opt_str("quant_method")? {
            Some(method) => method,
            // As transformers takes it: configurations older than the key are of bitsandbytes.
            None if ["load_in_8bit", "load_in_4bit"].iter().any(|key| section.get(key).is_some()) => "bitsandbytes",
            None => return Err(section.wrong("quant_method", "the name of a way to quantise, as \"fp8\"")),
        };
        match method {
            "fp8" | "mxfp8" => Ok(Some(Self { block: pair(&section, "weight_block_size")?, mxfp4: false })),
            "mxfp4" => Ok(Some(Self { block: None, mxfp4: true })),
            "fbgemm_fp8" => Ok(Some(Self::default())),
            "compressed-tensors" => compressed(&section).map(Some),
            "modelopt" if section.get("quant_algo").and_then(Value::as_str) == Some("FP8") => Ok(Some(Self::default())),
            "modelopt" => Err(unread(config, method, section.get("quant_algo").and_then(Value::as_str))),
            other => Err(unread(config, other, bits(&section).as_deref())),
        }
    }
}

/// What a configuration of the compressed-tensors package says; every group of layers must be of eight-bit floats.
fn compressed(section: &Config) -> Result<Quantization, CheckpointError> {
    let refuse = |what: &str| Err(unread(section, "compressed-tensors", Some(what)));
    let read = ["float-quantized", "naive-quantized", "mixed-precision"];
    match section.opt_str("format")? {
        Some(format) if !read.contains(&format) => return refuse(format),
        _ => {}
    }
    let sparse = section.section("sparsity_config").and_then(|sparsity| sparsity.get("format").cloned());
    if let Some(format) = sparse.as_ref().and_then(Value::as_str).filter(|format| *format != "dense") {
        return refuse(format);
    }
    let groups = section.section("config_groups");
    let mut block = None;
    for name in groups.iter().flat_map(|groups| groups.raw().as_object()).flatten().map(|(name, _)| name) {
        let group = groups.as_ref().and_then(|groups| groups.section(name));
        let Some(weights) = group.as_ref().and_then(|group| group.section("weights")) else { continue };
        let (kind, bits) = (weights.opt_str("type")?.unwrap_or("int"), weights.usize_or("num_bits", 8)?);
        if (kind, bits) != ("float", 8) {
            return refuse(&format!("{kind}{bits}"));
        }
        if !weights.flag("symmetric", true)? {
            return refuse("weights with zero points");
        }
        let shared = match pair(&weights, "block_structure")? {
            Some(block) => Some(block),
            None => weights.opt_usize("group_size")?.map(|size| [1, size]),
        };
        if shared.is_some() && block.is_some() && shared != block {
            return refuse("blocks of several sizes");
        }
        block = block.or(shared);
    }
    Ok(Quantization { block, mxfp4: false })
}

/// Two sizes of at least 1, or nothing where the key is absent.
fn pair(section: &Config, key: &str) -> Result<Option<[usize; 2]>, CheckpointError> {
    let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let read = |value: &Value| match value.as_array()?.as_slice() {
        [rows, columns] => Some([size(rows)?, size(columns)?]),
        _ => None,
    };
    let found = section.get(key).map(|value| read(value).ok_or_else(|| section.wrong(key, "two sizes of at least 1")));
    found.transpose()
}

/// How many bits a weight has, as most methods write it.
fn bits(section: &Config) -> Option<String> {
    let keys = ["bits", "w_bit", "nbits", "num_bits"];
    let said = keys.iter().find_map(|key| section.get(key)?.as_u64());
    let loaded = [("load_in_4bit", 4), ("load_in_8bit", 8)];
    let loaded = || loaded.iter().find(|(key, _)| section.get(key) == Some(&Value::Bool(true))).map(|(_, bits)| *bits);
    said.or_else(loaded).map(|bits| format!("{bits} bits"))
}

fn unread(config: &Config, method: &str, what: Option<&str>) -> CheckpointError {
    CheckpointError::Quantized {
        file: config.file().to_path_buf(),
        method: method.to_owned(),
        what: what.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(section: Value) -> Result<Option<Quantization>, String> {
        let config = Config::from_json("m/config.json", json!({"quantization_config": section})).unwrap();
        Quantization::read(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn eight_bit_floats_are_read_with_their_blocks() {
        let block = |block| Ok(Some(Quantization { block, mxfp4: false }));
        assert_eq!(Quantization::read(&Config::from_json("c", json!({})).unwrap()).unwrap(), None);
        assert_eq!(read(json!({"quant_method": "fp8"})), block(None));
        assert_eq!(read(json!({"quant_method": "fp8", "weight_block_size": null})), block(None));
        assert_eq!(read(json!({"quant_method": "fp8", "weight_block_size": [128, 64]})), block(Some([128, 64])));
        assert_eq!(read(json!({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0})), block(None));
        assert_eq!(read(json!({"quant_method": "modelopt", "quant_algo": "FP8"})), block(None));
        let compressed = |weights: Value| {
            let groups = json!({"group_0": {"weights": weights, "targets": ["Linear"]}, "group_1": {"weights": null}});
            read(json!({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": groups}))
        };
        let weights = json!({"num_bits": 8, "type": "float", "strategy": "channel", "group_size": null});
        assert_eq!(compressed(weights), block(None));
        let weights = json!({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]});
        assert_eq!(compressed(weights), block(Some([128, 128])));
        let weights = json!({"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32});
        assert_eq!(compressed(weights), block(Some([1, 32])));
    }

    #[test]
    fn other_methods_are_named_with_what_to_do_instead() {
        let methods = [
            "gptq",
            "awq",
            "bitsandbytes",
            "hqq",
            "quanto",
            "aqlm",
            "torchao",
            "eetq",
            "higgs",
            "spqr",
            "vptq",
            "bitnet",
            "auto-round",
            "quark",
            "nvfp4",
            "fp_quant",
            "something-new",
        ];
        for method in methods {
            let error = read(json!({"quant_method": method})).unwrap_err();
            assert!(error.starts_with(&format!("m/config.json: weights quantised with \"{method}\"")), "{error}");
            assert!(error.contains("GGUF") && error.contains("unquantised"), "{error}");
        }
        let error = |section| read(section).unwrap_err();
        assert!(error(json!({"quant_method": "gptq", "bits": 4})).contains("\"gptq\" (4 bits)"));
        assert!(
            error(json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"})).contains("\"bitsandbytes\" (4 bits)")
        );
        assert!(error(json!({"quant_method": "modelopt", "quant_algo": "NVFP4"})).contains("\"modelopt\" (NVFP4)"));
        let groups = |weights: Value| json!({"group_0": {"weights": weights}});
        let compressed = |format: &str, weights: Value| {
            let section =
                json!({"quant_method": "compressed-tensors", "format": format, "config_groups": groups(weights)});
            read(section).unwrap_err()
        };
        let float = json!({"num_bits": 8, "type": "float"});
        assert!(compressed("pack-quantized", json!({"num_bits": 4, "type": "int"})).contains("(pack-quantized)"));
        assert!(compressed("dense", float.clone()).contains("(dense)"));
        assert!(compressed("float-quantized", json!({"num_bits": 4, "type": "float"})).contains("(float4)"));
        assert!(compressed("naive-quantized", json!({"num_bits": 8, "type": "int"})).contains("(int8)"));
        let uneven = json!({"num_bits": 8, "type": "float", "symmetric": false});
        assert!(compressed("float-quantized", uneven).contains("zero points"));
        let sparse = json!({"quant_method": "compressed-tensors", "config_groups": groups(float),
                            "sparsity_config": {"format": "sparse-24-bitmask"}});
        assert!(error(sparse).contains("(sparse-24-bitmask)"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_with_its_key() {
        let error = |section| read(section).unwrap_err();
        assert!(error(json!({})).contains("`quantization_config.quant_method` is absent"));
        assert!(error(json!({"quant_method": 3})).contains("`quantization_config.quant_method` is 3"));
        for block in [json!([128]), json!([0, 128]), json!([-1, 128]), json!([1.5, 2]), json!("128"), json!([1, 2, 3])]
        {
            let error = error(json!({"quant_method": "fp8", "weight_block_size": block}));
            assert!(
                error.contains("`quantization_config.weight_block_size`") && error.contains("two sizes"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_text_models_own_section_counts() {
        let config = json!({"text_config": {"quantization_config": {"quant_method": "awq"}}});
        let error = Quantization::read(&Config::from_json("c.json", config).unwrap()).unwrap_err();
        assert!(error.to_string().contains("\"awq\""), "{error}");
    }
}
