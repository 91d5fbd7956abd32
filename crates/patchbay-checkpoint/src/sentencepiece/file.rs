//! The tokenizer of a folder that has SentencePiece's `tokenizer.model` and no `tokenizer.json`, built as transformers builds
//! it.

use std::path::Path;

use serde_json::Value;

use super::proto::{Model, Trainer};
use super::{Prefix, Style, bpe, unigram};
use crate::tokenizer::{Settings, Tokenizer};
use crate::vocabulary::{CONTROL, USER_DEFINED, Vocabulary};
use crate::{CheckpointError, Config};

/// How many tokens a folder may add behind a model's own, unused ones among them.
const MOST_ADDED: usize = 1 << 16;

/// Reads a `tokenizer.model`, and the files beside it that a `tokenizer.json` would have too.
pub(crate) fn read(path: &Path) -> Result<Tokenizer, CheckpointError> {
    let failed = || CheckpointError::tokenizer(path, "cannot be built");
    let bytes = std::fs::read(path).map_err(CheckpointError::io(path, "read"))?;
    let model = Model::read(&bytes).ok_or_else(|| {
        let hint = "Only SentencePiece's form is read, not tiktoken's: save the tokenizer as tokenizer.json \
                    (AutoTokenizer.from_pretrained(…).save_pretrained(…) does it), or remove the file to use token ids alone";
        CheckpointError::malformed(path, format!("this is no SentencePiece model. {hint}"))
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = beside(folder, "tokenizer_config.json")?;
    let mut vocabulary = Vocabulary::default();
    for piece in &model.pieces {
        vocabulary.tokens.push(piece.text.clone());
        vocabulary.types.push(piece.kind);
        vocabulary.scores.push(f64::from(piece.score));
    }
    add_tokens(&mut vocabulary, folder, config.as_ref())?;
    let style = style(&model, config.as_ref())?;
    let Trainer { kind, bos, eos, unknown, pad, .. } = model.trainer;
    let mut inner = match kind {
        1 => unigram(&vocabulary, &style).map_err(failed())?,
        2 => {
            // Pieces that were learned come in the order in which they were, and so do their merges.
            vocabulary.score_by_position();
            bpe(&vocabulary, None, &style).map_err(failed())?
        }
        _ => {
            let what = format!("a SentencePiece model of kind {kind} (model_type)");
            let known = vec!["unigram (1)".to_owned(), "BPE (2)".to_owned()];
            return Err(CheckpointError::Unsupported { file: path.to_path_buf(), what, known });
        }
    };
    let mut settings = Settings::read_with_frame(path, &inner)?;
    for (name, id) in [("bos_token", bos), ("eos_token", eos), ("unk_token", unknown), ("pad_token", pad)] {
        let piece = usize::try_from(id).ok().and_then(|id| model.pieces.get(id));
        if let Some(piece) = piece {
            settings.special_tokens.entry(name.to_owned()).or_insert_with(|| piece.text.clone());
        }
    }
    let special: Vec<u32> = settings.special_tokens.values().filter_map(|token| inner.token_to_id(token)).collect();
    inner.add_tokens(vocabulary.added(&special)).map_err(failed())?;
    if settings.add_bos.is_none() && settings.add_eos.is_none() {
        // A unigram model is T5's or its kin's, which end a text; all others begin it.
        (settings.add_bos, settings.add_eos) = (Some(kind == 2), Some(kind == 1));
    }
    if settings.stop_ids.is_empty() {
        settings.stop_ids.extend(settings.special_tokens.get("eos_token").and_then(|eos| inner.token_to_id(eos)));
    }
    Tokenizer::new(inner, settings)
}

/// What the model says of itself, and the files beside it otherwise.
fn style(model: &Model, config: Option<&Config>) -> Result<Style, CheckpointError> {
    let flag = |key: &str, default: bool| config.map_or(Ok(default), |config| config.flag(key, default));
    let prefix = match (flag("add_prefix_space", model.normalizer.add_dummy_prefix)?, flag("legacy", false)?) {
        (false, _) => Prefix::Never,
        (true, false) => Prefix::First,
        (true, true) => Prefix::Always,
    };
    Ok(Style {
        prefix,
        squeezed: model.normalizer.remove_extra_whitespaces,
        charsmap: model.normalizer.charsmap.clone(),
        byte_fallback: model.trainer.byte_fallback,
        unknown: usize::try_from(model.trainer.unknown).ok().filter(|id| *id < model.pieces.len()),
    })
}

/// Tokens that a folder adds: `added_tokens_decoder` in `tokenizer_config.json`, or the older `added_tokens.json`.
fn add_tokens(vocabulary: &mut Vocabulary, folder: &Path, config: Option<&Config>) -> Result<(), CheckpointError> {
    let older = beside(folder, "added_tokens.json")?;
    let mut added: Vec<(usize, &str, bool)> = Vec::new();
    if let Some(config) = &older {
        for (token, id) in config.raw().as_object().into_iter().flatten() {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            added.push((id.ok_or_else(|| config.wrong(token, "a token's id"))?, token, false));
        }
    }
    let section = config.and_then(|config| config.section("added_tokens_decoder"));
    if let Some(config) = &section {
        for (id, token) in config.raw().as_object().into_iter().flatten() {
            let text = token.get("content").and_then(Value::as_str);
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            let (Ok(id), Some(text)) = (id.parse(), text) else {
                return Err(config.wrong(id, "an id with an object that has the token's content"));
            };
            added.push((id, text, special));
        }
    }
    let most = vocabulary.tokens.len() + MOST_ADDED;
    for (id, token, special) in added {
        if id >= most {
            let detail = format!("it gives token {token:?} the id {id}, but the vocabulary has {most} ids at most");
            return Err(CheckpointError::malformed(folder, detail));
        }
        vocabulary.put(id, token.to_owned(), if special { CONTROL } else { USER_DEFINED });
    }
    Ok(())
}

fn beside(folder: &Path, name: &str) -> Result<Option<Config>, CheckpointError> {
    let file = folder.join(name);
    file.is_file().then(|| Config::from_file(&file)).transpose()
}
