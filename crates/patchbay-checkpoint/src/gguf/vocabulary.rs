//! The vocabulary of a GGUF file, in the spelling that `tokenizers` expects.

use std::collections::BTreeSet;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use super::GgufFile;
use crate::CheckpointError;
use crate::tokenizer::byte_spelling;

/// What a token is, as llama.cpp numbers it (`llama_token_type`).
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The tokens by id, each with its type.
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<String>,
    types: Vec<i64>,
}

impl Vocabulary {
    pub(super) fn read(gguf: &GgufFile) -> Result<Self, CheckpointError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = gguf.texts(key).ok_or_else(|| gguf.wrong(key, "a list of texts"))?;
        let types = gguf.numbers("tokenizer.ggml.token_type").unwrap_or_default();
        Ok(Self { tokens, types: types.into_iter().map(|number| number.as_f64() as i64).collect() })
    }

    fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(NORMAL)
    }

    /// Whether text may be cut into this token, which is not so for those that are matched whole.
    fn is_ordinary(&self, id: usize) -> bool {
        !matches!(self.kind(id), CONTROL | USER_DEFINED)
    }

    /// Ids by spelling, ordinary tokens in the byte alphabet. (Some files hold a few of them as plain text.)
    pub(super) fn byte_level(&self) -> Vocab {
        let spelling = byte_spelling();
        let alphabet: BTreeSet<char> = spelling.into_iter().collect();
        let spell = |(id, token): (usize, &String)| {
            let plain = self.is_ordinary(id) && !token.chars().all(|c| alphabet.contains(&c));
            let token =
                if plain { token.bytes().map(|byte| spelling[usize::from(byte)]).collect() } else { token.clone() };
            (token, id as u32)
        };
        self.tokens.iter().enumerate().map(spell).collect()
    }

    /// Ids by spelling, as the file has them.
    pub(super) fn as_spelled(&self) -> Vocab {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect()
    }

    /// Spells tokens of spaces alone with SentencePiece's `▁`, and lets them be merged like others. Gemma's files have
    /// them as real spaces, to be matched whole.
    pub(super) fn respell_spaces(&mut self) {
        for (id, token) in self.tokens.iter_mut().enumerate() {
            if token.contains(' ') && token.trim().is_empty() {
                *token = "▁".repeat(token.chars().count());
                if let Some(kind) = self.types.get_mut(id) {
                    *kind = NORMAL;
                }
            }
        }
    }

    /// The tokens that are matched whole in a text: control tokens, and `special` ones, are special; the user-defined
    /// ones are not.
    pub(super) fn added(&self, special: &[u32]) -> Vec<AddedToken> {
        let added = self.tokens.iter().enumerate().filter_map(|(id, token)| {
            let is_special = self.kind(id) == CONTROL || special.contains(&(id as u32));
            let is_added = is_special || self.kind(id) == USER_DEFINED;
            (is_added && !token.is_empty()).then(|| AddedToken::from(token.clone(), is_special).normalized(false))
        });
        added.collect()
    }

    /// The merges that the file lists.
    pub(super) fn listed_merges(gguf: &GgufFile) -> Result<Option<Merges>, CheckpointError> {
        let key = "tokenizer.ggml.merges";
        if gguf.get(key).is_none() {
            return Ok(None);
        }
        let merges = gguf.texts(key).ok_or_else(|| gguf.wrong(key, "a list of texts"))?;
        let pair = |merge: String| {
            let (left, right) = merge.split_once(' ').filter(|(_, right)| !right.contains(' '))?;
            Some((left.to_owned(), right.to_owned()))
        };
        let merges = merges.into_iter().map(pair).collect::<Option<Merges>>();
        merges.map(Some).ok_or_else(|| gguf.wrong(key, "a list of two tokens with one space between them, each"))
    }

    /// The merges that a SentencePiece vocabulary implies: every way to make a token of two others, likeliest first.
    /// The order is that of transformers' `generate_merges`.
    pub(super) fn implied_merges(&self, vocab: &Vocab, scores: &[f64]) -> Merges {
        let mut ranked = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let score = scores.get(id).copied().unwrap_or(f64::NEG_INFINITY);
            let mut pairs: Vec<(u32, u32, &str, &str)> = token
                .char_indices()
                .skip(1)
                .filter_map(|(at, _)| {
                    let (left, right) = token.split_at(at);
                    Some((*vocab.get(left)?, *vocab.get(right)?, left, right))
                })
                .collect();
            pairs.sort_unstable();
            ranked.extend(
                pairs
                    .into_iter()
                    .map(|(_, _, left, right)| ((score, left.chars().count(), right.chars().count()), (left, right))),
            );
        }
        ranked.sort_by(|((a, a_left, a_right), _), ((b, b_left, b_right), _)| {
            b.total_cmp(a).then(b_left.cmp(a_left)).then(b_right.cmp(a_right))
        });
        ranked.into_iter().map(|(_, (left, right))| (left.to_owned(), right.to_owned())).collect()
    }
}
