//! The vocabulary of a GGUF file or a SentencePiece model, in the spelling that `tokenizers` expects.

use std::collections::BTreeSet;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use crate::tokenizer::byte_spelling;

/// What a token is, as SentencePiece numbers it, and llama.cpp after it (`llama_token_type`).
pub(crate) const NORMAL: i64 = 1;
pub(crate) const CONTROL: i64 = 3;
pub(crate) const USER_DEFINED: i64 = 4;
pub(crate) const UNUSED: i64 = 5;

/// The tokens by id, each with its type and, in SentencePiece vocabularies, its score.
#[derive(Default)]
pub(crate) struct Vocabulary {
    pub(crate) tokens: Vec<String>,
    pub(crate) types: Vec<i64>,
    pub(crate) scores: Vec<f64>,
}

impl Vocabulary {
    fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(NORMAL)
    }

    /// Whether text may be cut into this token, which is not so for those that are matched whole.
    fn is_ordinary(&self, id: usize) -> bool {
        !matches!(self.kind(id), CONTROL | USER_DEFINED)
    }

    /// Ids by spelling, ordinary tokens in the byte alphabet. (Some files hold a few of them as plain text.)
    pub(crate) fn byte_level(&self) -> Vocab {
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
    pub(crate) fn as_spelled(&self) -> Vocab {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect()
    }

    /// Spells tokens of spaces alone with SentencePiece's `▁`, and lets them be merged like others. Gemma's files have
    /// them as real spaces, to be matched whole.
    pub(crate) fn respell_spaces(&mut self) {
        for (id, token) in self.tokens.iter_mut().enumerate() {
            if token.contains(' ') && token.trim().is_empty() {
                *token = "▁".repeat(token.chars().count());
                if let Some(kind) = self.types.get_mut(id) {
                    *kind = NORMAL;
                }
            }
        }
    }

    /// Scores by place, for vocabularies whose own do not follow the order of their merges.
    pub(crate) fn score_by_position(&mut self) {
        self.scores = (0..self.tokens.len()).map(|position| -(position as f64)).collect();
    }

    /// Puts a token at an id behind the others, with unused ones between.
    pub(crate) fn put(&mut self, id: usize, token: String, kind: i64) {
        while self.tokens.len() <= id {
            self.tokens.push(format!("[PAD{}]", self.tokens.len()));
        }
        self.types.resize(self.tokens.len(), UNUSED);
        self.scores.resize(self.tokens.len(), 0.0);
        (self.tokens[id], self.types[id]) = (token, kind);
    }

    /// The tokens that are matched whole in a text: control tokens, and `special` ones, are special; the user-defined
    /// ones are not.
    pub(crate) fn added(&self, special: &[u32]) -> Vec<AddedToken> {
        let added = self.tokens.iter().enumerate().filter_map(|(id, token)| {
            let is_special = self.kind(id) == CONTROL || special.contains(&(id as u32));
            let is_added = is_special || self.kind(id) == USER_DEFINED;
            (is_added && !token.is_empty()).then(|| AddedToken::from(token.clone(), is_special).normalized(false))
        });
        added.collect()
    }

    /// The merges that a SentencePiece vocabulary implies: every way to make a token of two others, likeliest first.
    /// The order is that of transformers' `generate_merges`.
    pub(crate) fn implied_merges(&self, vocab: &Vocab) -> Merges {
        let mut ranked = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let score = self.scores.get(id).copied().unwrap_or(f64::NEG_INFINITY);
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
