//! The tokenizer inside a GGUF file, rebuilt as the one in the model's `tokenizer.json`.
//!
//! Three kinds are in use: byte-level BPE (`tokenizer.ggml.model` "gpt2"), which lists its merges and names the cut that
//! comes before them (`tokenizer.ggml.pre`), SentencePiece BPE ("llama"), whose merges follow from its scores, and
//! SentencePiece unigram ("t5").

use tokenizers::Tokenizer as Inner;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;

use super::cuts::{CUTS, Cut};
use super::{GgufFile, vocabulary};
use crate::CheckpointError;
use crate::chat::ChatTemplates;
use crate::sentencepiece::{Prefix, Style, bpe, unigram};
use crate::tokenizer::{Settings, Tokenizer};
use crate::vocabulary::Vocabulary;

/// The file's tokenizer; nothing where it has none.
pub(crate) fn tokenizer(gguf: &GgufFile) -> Result<Option<Tokenizer>, CheckpointError> {
    let failed = || CheckpointError::tokenizer(gguf.path(), "cannot be built");
    let key = "tokenizer.ggml.model";
    // llama.cpp frames a SentencePiece vocabulary's texts in files that do not say: BOS before BPE's, EOS after unigram's.
    let (mut inner, vocabulary, frame) = match gguf.text(key) {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("gpt2") => {
            let vocabulary = vocabulary::read(gguf)?;
            (byte_level(gguf, &vocabulary)?, vocabulary, (false, false))
        }
        Some("llama") => {
            let vocabulary = sentence_piece_vocabulary(gguf)?;
            let merges = vocabulary::listed_merges(gguf)?;
            (bpe(&vocabulary, merges, &style(gguf, true)).map_err(failed())?, vocabulary, (true, false))
        }
        Some("t5") => {
            let vocabulary = vocabulary::read_scored(gguf)?;
            (unigram(&vocabulary, &style(gguf, false)).map_err(failed())?, vocabulary, (false, true))
        }
        Some(_) => {
            let expected = "\"gpt2\" (byte-level BPE), \"llama\" (SentencePiece BPE) or \"t5\" (SentencePiece unigram)";
            return Err(gguf.wrong(key, expected));
        }
    };
    let id = |name: &str| {
        let id = gguf.uint(&format!("tokenizer.ggml.{name}_token_id"));
        id.filter(|&id| id < vocabulary.tokens.len() as u64).map(|id| id as u32)
    };
    let [bos, eos, unknown, padding] = ["bos", "eos", "unknown", "padding"].map(id);
    let special: Vec<u32> = [bos, eos, unknown, padding].into_iter().flatten().collect();
    inner.add_tokens(vocabulary.added(&special)).map_err(failed())?;
    let text = |id: u32| vocabulary.tokens[id as usize].clone();
    let names = [("bos_token", bos), ("eos_token", eos), ("unk_token", unknown), ("pad_token", padding)];
    let settings = Settings {
        file: gguf.path().to_path_buf(),
        special_tokens: names.iter().filter_map(|(name, id)| Some(((*name).to_owned(), text((*id)?)))).collect(),
        add_bos: Some(gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(frame.0)),
        add_eos: Some(gguf.flag("tokenizer.ggml.add_eos_token").unwrap_or(frame.1)),
        stop_ids: ["eos", "eot", "eom"].into_iter().filter_map(id).collect(),
        chat: templates(gguf),
    };
    Tokenizer::new(inner, settings).map(Some)
}

/// The chat template, and the one for tools.
fn templates(gguf: &GgufFile) -> ChatTemplates {
    let template = |name: &str| gguf.text(&format!("tokenizer.chat_template{name}"));
    ChatTemplates::one(template("").or_else(|| template(".default"))).with_tools(template(".tool_use"))
}

fn byte_level(gguf: &GgufFile, vocabulary: &Vocabulary) -> Result<Inner, CheckpointError> {
    let failed = || CheckpointError::tokenizer(gguf.path(), "cannot be built");
    let pre = gguf.text("tokenizer.ggml.pre").unwrap_or("default");
    let cut = Cut::find(pre).ok_or_else(|| CheckpointError::Unsupported {
        file: gguf.path().to_path_buf(),
        what: format!("the pre-tokenizer \"{pre}\" (tokenizer.ggml.pre)"),
        known: CUTS.iter().flat_map(|cut| cut.names).map(|name| (*name).to_owned()).collect(),
    })?;
    let merges = vocabulary::listed_merges(gguf)?
        .ok_or_else(|| gguf.wrong("tokenizer.ggml.merges", "the list of merges of byte-level BPE"))?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.byte_level(), merges)
        .ignore_merges(cut.whole)
        .build()
        .map_err(failed())?;
    let mut inner = Inner::new(model);
    cut.dress(&mut inner).map_err(failed())?;
    inner.with_decoder(Some(ByteLevel::default()));
    Ok(inner)
}

/// A SentencePiece BPE vocabulary, with scores in the order of its merges.
fn sentence_piece_vocabulary(gguf: &GgufFile) -> Result<Vocabulary, CheckpointError> {
    // Gemma's scores do not follow the order of its merges; the order of its tokens does.
    if !gguf.text("general.architecture").is_some_and(|name| name.starts_with("gemma")) {
        return vocabulary::read_scored(gguf);
    }
    let mut vocabulary = vocabulary::read(gguf)?;
    vocabulary.respell_spaces();
    vocabulary.score_by_position();
    Ok(vocabulary)
}

/// How a SentencePiece vocabulary is used.
fn style(gguf: &GgufFile, byte_fallback: bool) -> Style {
    let is_phi3 = gguf.text("general.architecture") == Some("phi3");
    let prefix = match gguf.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true) {
        false => Prefix::Never,
        true if is_phi3 => Prefix::Prepended,
        true => Prefix::First,
    };
    let charsmap = gguf.numbers("tokenizer.ggml.precompiled_charsmap").unwrap_or_default();
    Style {
        prefix,
        squeezed: gguf.flag("tokenizer.ggml.remove_extra_whitespaces").unwrap_or(false),
        charsmap: charsmap.into_iter().map(|byte| byte.as_f64() as i64 as u8).collect(),
        byte_fallback,
        unknown: gguf.uint("tokenizer.ggml.unknown_token_id").and_then(|id| usize::try_from(id).ok()),
    }
}
