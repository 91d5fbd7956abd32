//! The vocabulary of a GGUF file.

use tokenizers::models::bpe::Merges;

use super::{GgufFile, Number};
use crate::CheckpointError;
use crate::vocabulary::Vocabulary;

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// Tokens, types and, where the file has them, scores.
pub(super) fn read(gguf: &GgufFile) -> Result<Vocabulary, CheckpointError> {
    let tokens = gguf.texts(TOKENS).ok_or_else(|| gguf.wrong(TOKENS, "a list of texts"))?;
    let types = gguf.numbers("tokenizer.ggml.token_type").unwrap_or_default();
    let scores = gguf.numbers(SCORES).unwrap_or_default();
    Ok(Vocabulary {
        tokens,
        types: types.into_iter().map(|number| number.as_f64() as i64).collect(),
        scores: scores.into_iter().map(Number::as_f64).collect(),
    })
}

/// The same of a file that must have scores.
pub(super) fn read_scored(gguf: &GgufFile) -> Result<Vocabulary, CheckpointError> {
    let vocabulary = read(gguf)?;
    if vocabulary.scores.len() == vocabulary.tokens.len() {
        return Ok(vocabulary);
    }
    Err(gguf.wrong(SCORES, &format!("a list of {} numbers, one a token", vocabulary.tokens.len())))
}

/// The merges that the file lists.
pub(super) fn listed_merges(gguf: &GgufFile) -> Result<Option<Merges>, CheckpointError> {
    if gguf.get(MERGES).is_none() {
        return Ok(None);
    }
    let merges = gguf.texts(MERGES).ok_or_else(|| gguf.wrong(MERGES, "a list of texts"))?;
    let pair = |merge: String| {
        let (left, right) = merge.split_once(' ').filter(|(_, right)| !right.contains(' '))?;
        Some((left.to_owned(), right.to_owned()))
    };
    let merges = merges.into_iter().map(pair).collect::<Option<Merges>>();
    merges.map(Some).ok_or_else(|| gguf.wrong(MERGES, "a list of two tokens with one space between them, each"))
}
