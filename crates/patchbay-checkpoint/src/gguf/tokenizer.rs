//! The tokenizer inside a GGUF file, rebuilt as the one in the model's `tokenizer.json`.
//!
//! Two kinds are in use: byte-level BPE (`tokenizer.ggml.model` "gpt2"), which lists its merges and names the regular
//! expressions that cut a text before merging (`tokenizer.ggml.pre`), and SentencePiece BPE ("llama"), whose merges
//! follow from its scores. The expressions are llama.cpp's and transformers'
//! (`integrations/gguf/gguf_tokenizer_mapping.py`).

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{DecoderWrapper, PreTokenizerWrapper, Tokenizer as Inner};

use super::GgufFile;
use super::vocabulary::Vocabulary;
use crate::CheckpointError;
use crate::chat::ChatTemplates;
use crate::tokenizer::{Settings, Tokenizer};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// How a byte-level vocabulary cuts a text.
struct Cut {
    /// Values of `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Expressions, each applied to the pieces of the one before.
    splits: &'static [&'static str],
    /// Whether a piece that is a token is taken whole, without its merges being followed.
    whole: bool,
}

const CUTS: &[Cut] = &[
    Cut { names: &["default", "gpt-2", "gpt2", "phi-2", "olmo", "mpt"], splits: &[GPT2], whole: false },
    Cut { names: &["smollm", "starcoder", "refact", "command-r"], splits: &[DIGIT, GPT2], whole: false },
    Cut { names: &["llama-bpe", "llama3", "llama-v3", "falcon3"], splits: &[LLAMA3], whole: true },
    Cut { names: &["dbrx", "smaug-bpe"], splits: &[LLAMA3], whole: false },
    Cut { names: &["qwen2", "deepseek-r1-qwen"], splits: &[QWEN2], whole: false },
    Cut { names: &["tekken"], splits: &[TEKKEN], whole: true },
    Cut { names: &["gpt-4o", "llama4"], splits: &[GPT4O], whole: false },
];

/// The file's tokenizer; nothing where it has none.
pub(crate) fn tokenizer(gguf: &GgufFile) -> Result<Option<Tokenizer>, CheckpointError> {
    let key = "tokenizer.ggml.model";
    let (mut inner, vocabulary, add_bos) = match gguf.text(key) {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("gpt2") => {
            let vocabulary = Vocabulary::read(gguf)?;
            (byte_level(gguf, &vocabulary)?, vocabulary, false)
        }
        Some("llama") => {
            let mut vocabulary = Vocabulary::read(gguf)?;
            // llama.cpp adds BOS to a SentencePiece vocabulary that does not say otherwise.
            (sentence_piece(gguf, &mut vocabulary)?, vocabulary, true)
        }
        Some(_) => return Err(gguf.wrong(key, "\"gpt2\" (byte-level BPE) or \"llama\" (SentencePiece)")),
    };
    let id = |name: &str| {
        let id = gguf.uint(&format!("tokenizer.ggml.{name}_token_id"));
        id.filter(|&id| id < vocabulary.tokens.len() as u64).map(|id| id as u32)
    };
    let [bos, eos, unknown, padding] = ["bos", "eos", "unknown", "padding"].map(id);
    let special: Vec<u32> = [bos, eos, unknown, padding].into_iter().flatten().collect();
    inner.add_tokens(vocabulary.added(&special)).map_err(CheckpointError::tokenizer(gguf.path(), "cannot be built"))?;
    let text = |id: u32| vocabulary.tokens[id as usize].clone();
    let names = [("bos_token", bos), ("eos_token", eos), ("unk_token", unknown), ("pad_token", padding)];
    let settings = Settings {
        file: gguf.path().to_path_buf(),
        special_tokens: names.iter().filter_map(|(name, id)| Some(((*name).to_owned(), text((*id)?)))).collect(),
        add_bos: Some(gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(add_bos)),
        add_eos: Some(gguf.flag("tokenizer.ggml.add_eos_token").unwrap_or(false)),
        stop_ids: ["eos", "eot", "eom"].into_iter().filter_map(id).collect(),
        chat: ChatTemplates::one(gguf.text("tokenizer.chat_template")),
    };
    Tokenizer::new(inner, settings).map(Some)
}

fn byte_level(gguf: &GgufFile, vocabulary: &Vocabulary) -> Result<Inner, CheckpointError> {
    let failed = || CheckpointError::tokenizer(gguf.path(), "cannot be built");
    let pre = gguf.text("tokenizer.ggml.pre").unwrap_or("default");
    let cut = CUTS.iter().find(|cut| cut.names.contains(&pre)).ok_or_else(|| CheckpointError::Unsupported {
        file: gguf.path().to_path_buf(),
        what: format!("the pre-tokenizer \"{pre}\" (tokenizer.ggml.pre)"),
        known: CUTS.iter().flat_map(|cut| cut.names).map(|name| (*name).to_owned()).collect(),
    })?;
    let merges = Vocabulary::listed_merges(gguf)?
        .ok_or_else(|| gguf.wrong("tokenizer.ggml.merges", "the list of merges of byte-level BPE"))?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.byte_level(), merges)
        .ignore_merges(cut.whole)
        .build()
        .map_err(failed())?;
    let mut steps = Vec::new();
    for split in cut.splits {
        let pattern = SplitPattern::Regex((*split).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed())?;
        steps.push(PreTokenizerWrapper::Split(split));
    }
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(Sequence::new(steps)));
    inner.with_decoder(Some(ByteLevel::default()));
    Ok(inner)
}

fn sentence_piece(gguf: &GgufFile, vocabulary: &mut Vocabulary) -> Result<Inner, CheckpointError> {
    let failed = || CheckpointError::tokenizer(gguf.path(), "cannot be built");
    // Gemma's scores do not follow the order of its merges; the order of its tokens does.
    let by_position = gguf.text("general.architecture").is_some_and(|name| name.starts_with("gemma"));
    let scores: Vec<f64> = if by_position {
        vocabulary.respell_spaces();
        (0..vocabulary.tokens.len()).map(|position| -(position as f64)).collect()
    } else {
        let key = "tokenizer.ggml.scores";
        let scores = gguf.numbers(key).ok_or_else(|| gguf.wrong(key, "a list of numbers"))?;
        scores.into_iter().map(super::Number::as_f64).collect()
    };
    let vocab = vocabulary.as_spelled();
    let merges = match Vocabulary::listed_merges(gguf)? {
        Some(merges) => merges,
        None => vocabulary.implied_merges(&vocab, &scores),
    };
    let mut model = BPE::builder().vocab_and_merges(vocab, merges).fuse_unk(true).byte_fallback(true);
    let unknown = gguf.uint("tokenizer.ggml.unknown_token_id").and_then(|id| vocabulary.tokens.get(id as usize));
    if let Some(unknown) = unknown {
        model = model.unk_token(unknown.clone());
    }
    let prefix = gguf.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let scheme = if prefix { PrependScheme::First } else { PrependScheme::Never };
    let mut decoders = vec![
        DecoderWrapper::Replace(Replace::new("▁".to_owned(), " ").map_err(failed())?),
        DecoderWrapper::ByteFallback(ByteFallback::default()),
        DecoderWrapper::Fuse(Fuse::default()),
    ];
    if prefix {
        decoders.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    let mut inner = Inner::new(model.build().map_err(failed())?);
    inner.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    inner.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok(inner)
}
