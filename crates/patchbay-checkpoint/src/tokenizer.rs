//! Text to token ids and back, as transformers does it, and the place of each token in the text.
//!
//! The work is done by the `tokenizers` crate. What is added here: which special tokens frame a text (those of the
//! tokenizer's post-processor; a GGUF file says it in its metadata), the chat template, and the bytes each token alone stands for, from which [`Encoding::text`] and [`Encoding::ends`] are made:
//! a quoted text is found in `text`, and `ends` says which token its last byte belongs to.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Inner;

use crate::CheckpointError;
use crate::chat::ChatOptions;

mod settings;

pub(crate) use settings::Settings;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: Inner,
    spelling: Spelling,
    /// Whether decoding drops the space that encoding puts before a text.
    drops_first_space: bool,
    /// Ids put before and after a text with `add_special_tokens`.
    before: Vec<u32>,
    after: Vec<u32>,
    settings: Settings,
}

/// How a token's entry in the vocabulary spells its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// One character a byte (GPT-2's alphabet).
    ByteLevel,
    /// SentencePiece: `▁` is a space, `<0x0A>` a byte.
    Pieces,
    /// Anything else: known only by decoding.
    Other,
}

/// Tokens, and the text they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Each token's text as [`Tokenizer::token_text`] gives it, for display: `"The"`, `" capital"`.
    pub tokens: Vec<String>,
    /// The text the tokens stand for, without the special tokens that were added around it.
    pub text: String,
    /// For each token the byte of `text` at which it ends, always between two characters: of the tokens that share a
    /// character, the last one's end is behind it. A special token that was added has its predecessor's end.
    pub ends: Vec<usize>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, and beside it `tokenizer_config.json`, `special_tokens_map.json`, the chat templates and
    /// `generation_config.json` where they exist.
    ///
    /// # Errors
    /// [`CheckpointError::Tokenizer`] when it cannot be built, [`CheckpointError::Io`] or
    /// [`CheckpointError::Malformed`] when a file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path).map_err(CheckpointError::io(path, "read"))?;
        let mut inner = Inner::from_bytes(bytes).map_err(CheckpointError::tokenizer(path, "cannot be built"))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(CheckpointError::tokenizer(path, "cannot be built"))?;
        let settings = Settings::read(path, &inner)?;
        Self::new(inner, settings)
    }

    pub(crate) fn new(inner: Inner, settings: Settings) -> Result<Self, CheckpointError> {
        let decoder = inner.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok()).unwrap_or_default();
        let spelling = if decoder.contains("\"ByteLevel\"") {
            Spelling::ByteLevel
        } else if decoder.contains("\"Metaspace\"") || decoder.contains("\"ByteFallback\"") {
            Spelling::Pieces
        } else {
            Spelling::Other
        };
        let mut tokenizer = Self { inner, spelling, drops_first_space: false, before: vec![], after: vec![], settings };
        tokenizer.drops_first_space = tokenizer.probe_first_space();
        (tokenizer.before, tokenizer.after) = tokenizer.probe_frame()?;
        Ok(tokenizer)
    }

    /// Tokenizes a text. With `add_special_tokens` it is framed as the model was trained to see it. Special tokens
    /// written in the text are recognised either way.
    ///
    /// # Errors
    /// [`CheckpointError::Tokenizer`] when the tokenizer has no token for a part of the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Encoding, CheckpointError> {
        let encoded = self
            .inner
            .encode_fast(text, false)
            .map_err(CheckpointError::tokenizer(&self.settings.file, "cannot encode"))?;
        let (before, after) = if add_special_tokens { (&*self.before, &*self.after) } else { (&[][..], &[][..]) };
        self.lay_out(before, encoded.get_ids(), after)
    }

    /// The same for ids that came as numbers. Those that [`encode`](Self::encode) would have added around a text count
    /// as added.
    ///
    /// # Errors
    /// [`CheckpointError::TokenId`] for an id that is not in the vocabulary.
    pub fn describe_ids(&self, ids: &[u32]) -> Result<Encoding, CheckpointError> {
        if let Some(&id) = ids.iter().find(|&&id| self.inner.id_to_token(id).is_none()) {
            return Err(CheckpointError::TokenId { id, vocab: self.vocab_size() });
        }
        let begin = if ids.starts_with(&self.before) { self.before.len() } else { 0 };
        let rest = &ids[begin..];
        let end = if rest.ends_with(&self.after) { rest.len() - self.after.len() } else { rest.len() };
        self.lay_out(&ids[..begin], &rest[..end], &rest[end..])
    }

    /// Turns ids into text.
    ///
    /// # Errors
    /// [`CheckpointError::Tokenizer`] when the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, CheckpointError> {
        self.inner
            .decode(ids, skip_special_tokens)
            .map_err(CheckpointError::tokenizer(&self.settings.file, "cannot decode"))
    }

    /// What one token alone stands for: `" Paris"` keeps its space, a special token is its name, a part of a character
    /// is `U+FFFD`, and an id without a token is nothing.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(&self.bytes(None, id)).into_owned()
    }

    /// The bytes that a token adds to a text: a special one its name, an id without a token nothing.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.bytes(None, id)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token by its entry in the vocabulary, such as `<|im_end|>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.special("bos_token")
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.special("eos_token")
    }

    /// The tokens that end a generation: EOS, and those the model's files name beside it (`generation_config.json`).
    pub fn stop_ids(&self) -> &[u32] {
        &self.settings.stop_ids
    }

    /// Whether a token is special, which [`decode`](Self::decode) can skip.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// The model's chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.settings.chat.default_template()
    }

    /// The template that messages are rendered with where there are tools.
    pub fn tool_template(&self) -> Option<&str> {
        self.settings.chat.tool_template()
    }

    /// Renders messages (`[{"role": …, "content": …}, …]`) to the text the model was trained on. It holds its own
    /// special tokens: encode it with `add_special_tokens` false.
    ///
    /// # Errors
    /// [`CheckpointError::Chat`] when there is no template, or it refuses the messages.
    pub fn apply_chat_template(&self, messages: &Value, options: &ChatOptions) -> Result<String, CheckpointError> {
        self.settings.chat.render(&self.settings.file, &self.settings.special_tokens, messages, options)
    }

    fn special(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(self.settings.special_tokens.get(name)?)
    }

    /// Whether the decoder takes the first space away: tried on a token that begins with one.
    fn probe_first_space(&self) -> bool {
        // One space alone, so that what is left after one is taken away begins with none.
        let is_word =
            |piece: &str| piece.strip_prefix('▁').is_some_and(|word| !word.is_empty() && !word.starts_with('▁'));
        let piece = |id: &u32| self.inner.id_to_token(*id).is_some_and(|piece| is_word(&piece));
        let probe = (self.spelling == Spelling::Pieces).then(|| (0..self.vocab_size() as u32).find(piece)).flatten();
        probe.is_some_and(|id| self.inner.decode(&[id], false).is_ok_and(|text| !text.starts_with(' ')))
    }

    /// The special tokens around a text.
    fn probe_frame(&self) -> Result<(Vec<u32>, Vec<u32>), CheckpointError> {
        let Settings { add_bos, add_eos, .. } = self.settings;
        if add_bos.is_some() || add_eos.is_some() {
            let side = |add: Option<bool>, id: Option<u32>| id.filter(|_| add == Some(true)).into_iter().collect();
            return Ok((side(add_bos, self.bos()), side(add_eos, self.eos())));
        }
        let probe =
            self.inner.encode("a", true).map_err(CheckpointError::tokenizer(&self.settings.file, "cannot encode"))?;
        let (ids, mask) = (probe.get_ids(), probe.get_special_tokens_mask());
        let before = mask.iter().take_while(|&&special| special == 1).count();
        let after = mask[before..].iter().rev().take_while(|&&special| special == 1).count();
        Ok((ids[..before].to_vec(), ids[ids.len() - after..].to_vec()))
    }

    /// Puts tokens and their text side by side.
    fn lay_out(&self, before: &[u32], ids: &[u32], after: &[u32]) -> Result<Encoding, CheckpointError> {
        let all = [before, ids, after].concat();
        let mut text = String::new();
        let mut ends = vec![0; before.len()];
        let mut pending = Vec::new();
        let mut previous = None;
        for &id in ids {
            pending.extend(self.bytes(previous, id));
            move_whole_characters(&mut pending, &mut text);
            ends.push(text.len());
            previous = Some(id);
        }
        if !pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            ends.pop();
            ends.push(text.len());
        }
        if self.drops_first_space && text.starts_with(' ') {
            text.remove(0);
            ends.iter_mut().for_each(|end| *end = end.saturating_sub(1));
        }
        ends.resize(all.len(), text.len());
        Ok(Encoding { tokens: all.iter().map(|&id| self.token_text(id)).collect(), ids: all, text, ends })
    }

    /// The bytes a token stands for, behind a previous one where that makes a difference.
    fn bytes(&self, previous: Option<u32>, id: u32) -> Vec<u8> {
        let Some(token) = self.inner.id_to_token(id) else { return Vec::new() };
        let is_added = || self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id);
        match self.spelling {
            // A token that is matched whole is written as it stands, not in the byte alphabet.
            Spelling::ByteLevel if is_added() => token.into_bytes(),
            Spelling::ByteLevel => byte_level_bytes(&token).unwrap_or_else(|| token.into_bytes()),
            Spelling::Pieces => match byte_piece(&token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
            Spelling::Other => {
                let decode = |ids: &[u32]| self.inner.decode(ids, false).unwrap_or_default();
                let Some(previous) = previous else { return decode(&[id]).into_bytes() };
                let (alone, both) = (decode(&[previous]), decode(&[previous, id]));
                both.strip_prefix(&alone).map_or_else(|| decode(&[id]).into_bytes(), |rest| rest.as_bytes().to_vec())
            }
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.settings.file).field("vocab", &self.vocab_size()).finish()
    }
}

/// The character that GPT-2's alphabet has for each byte: printable ones for themselves, the others from U+0100 on.
pub(crate) fn byte_spelling() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte as u8),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}

/// The bytes of a token in GPT-2's alphabet; nothing where it has another character.
fn byte_level_bytes(token: &str) -> Option<Vec<u8>> {
    static BYTES: std::sync::LazyLock<BTreeMap<char, u8>> =
        std::sync::LazyLock::new(|| byte_spelling().into_iter().zip(0..=u8::MAX).collect());
    token.chars().map(|character| BYTES.get(&character).copied()).collect()
}

/// The byte of a piece such as `<0x0A>`.
fn byte_piece(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Moves what is whole from the bytes to the text. What cannot become a character is replaced; the beginning of one
/// stays.
fn move_whole_characters(bytes: &mut Vec<u8>, text: &mut String) {
    while !bytes.is_empty() {
        let (valid, broken) = match std::str::from_utf8(bytes) {
            Ok(whole) => (whole.len(), Some(0)),
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        text.push_str(&String::from_utf8_lossy(&bytes[..valid]));
        match broken {
            None => return drop(bytes.drain(..valid)),
            Some(0) => {}
            Some(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
        bytes.drain(..valid + broken.unwrap_or(0));
    }
}
