//! SentencePiece vocabularies (Kudo & Richardson 2018) as `tokenizers` runs them, whether from a `tokenizer.model` or a
//! GGUF file: BPE, whose merges follow from the pieces, and unigram.
//!
//! What SentencePiece does to a text first is done here by normalizers: its table of characters (`charsmap`), extra
//! spaces, and `▁` for spaces and before the text.

mod charsmap;
mod file;
mod proto;

pub(crate) use file::read;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::utils::Sequence;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, replace::ReplacePattern};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{DecoderWrapper, Result, Tokenizer as Inner};

use crate::vocabulary::Vocabulary;

/// What stands before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Nothing.
    Never,
    /// A space, unless the text begins with one.
    First,
    /// The same, and after every special token too (what transformers calls legacy).
    Always,
    /// A space, whatever the text begins with (Phi-3).
    Prepended,
}

/// How a vocabulary is used.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub(crate) prefix: Prefix,
    /// Whether runs of spaces become one, and those at the ends of a text none.
    pub(crate) squeezed: bool,
    /// What characters are replaced by, in SentencePiece's own form; empty where nothing is.
    pub(crate) charsmap: Vec<u8>,
    /// Whether what is not in the vocabulary becomes bytes.
    pub(crate) byte_fallback: bool,
    /// The id of what is not in the vocabulary and becomes no bytes.
    pub(crate) unknown: Option<usize>,
}

/// A BPE vocabulary; merges that are not listed follow from the scores.
pub(crate) fn bpe(vocabulary: &Vocabulary, merges: Option<Merges>, style: &Style) -> Result<Inner> {
    let vocab = vocabulary.as_spelled();
    let merges = merges.unwrap_or_else(|| vocabulary.implied_merges(&vocab));
    let mut model = BPE::builder().vocab_and_merges(vocab, merges).fuse_unk(true).byte_fallback(style.byte_fallback);
    if let Some(unknown) = style.unknown.and_then(|id| vocabulary.tokens.get(id)) {
        model = model.unk_token(unknown.clone());
    }
    dressed(Inner::new(model.build()?), style)
}

/// A unigram vocabulary.
pub(crate) fn unigram(vocabulary: &Vocabulary, style: &Style) -> Result<Inner> {
    if let Some(score) = vocabulary.scores.iter().find(|score| !score.is_finite()) {
        return Err(format!("a token has the score {score}, which must be a number").into());
    }
    if let Some(place) = vocabulary.tokens.iter().position(String::is_empty) {
        return Err(format!("token {place} is empty").into());
    }
    let pieces = vocabulary.tokens.iter().cloned().zip(vocabulary.scores.iter().copied()).collect();
    dressed(Inner::new(Unigram::from(pieces, style.unknown, style.byte_fallback)?), style)
}

/// The model with what is done to a text before and after it.
fn dressed(mut inner: Inner, style: &Style) -> Result<Inner> {
    let spaces = |pattern: &str, content: &str| -> Result<NormalizerWrapper> {
        let pattern = ReplacePattern::Regex(pattern.to_owned());
        Ok(NormalizerWrapper::Replace(Replace::new(pattern, content)?))
    };
    let mut normalizers = Vec::new();
    if !style.charsmap.is_empty() {
        normalizers.push(NormalizerWrapper::Precompiled(charsmap::checked(&style.charsmap)?));
    }
    if style.squeezed {
        normalizers.extend([spaces(" {2,}", " ")?, spaces("^ | $", "")?]);
    }
    if style.prefix == Prefix::Prepended {
        normalizers.push(NormalizerWrapper::Prepend(Prepend::new("▁".to_owned())));
        normalizers.push(NormalizerWrapper::Replace(Replace::new(" ".to_owned(), "▁")?));
    } else {
        let scheme = match style.prefix {
            // The first piece of a text is known by its place there, which squeezing may have taken away.
            Prefix::First if !style.squeezed => PrependScheme::First,
            Prefix::First | Prefix::Always => PrependScheme::Always,
            Prefix::Never | Prefix::Prepended => PrependScheme::Never,
        };
        inner.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    }
    if !normalizers.is_empty() {
        inner.with_normalizer(Some(Sequence::new(normalizers)))?;
    }
    let mut decoders = vec![
        DecoderWrapper::Replace(Replace::new("▁".to_owned(), " ")?),
        DecoderWrapper::ByteFallback(ByteFallback::default()),
        DecoderWrapper::Fuse(Fuse::default()),
    ];
    if style.prefix != Prefix::Never {
        decoders.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    inner.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok(inner)
}
