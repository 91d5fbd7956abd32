//! What a tokenizer's files say beside the tokenizer itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer as Inner;

use crate::chat::ChatTemplates;
use crate::{CheckpointError, Config};

/// What a tokenizer's files say beside the tokenizer itself.
#[derive(Default)]
pub(crate) struct Settings {
    /// The file, for messages.
    pub(crate) file: PathBuf,
    /// `bos_token` and the like, and their text.
    pub(crate) special_tokens: BTreeMap<String, String>,
    /// Whether BOS and EOS frame a text; where neither is said, the tokenizer's post-processor decides.
    pub(crate) add_bos: Option<bool>,
    pub(crate) add_eos: Option<bool>,
    /// Tokens that end a generation, beside EOS.
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) chat: ChatTemplates,
}

impl Settings {
    /// Reads the files beside a `tokenizer.json`.
    ///
    /// `add_bos_token` and `add_eos_token` are not heard there: the post-processor in the file says what frames a text, as in
    /// transformers 5, whose GPT-NeoX class alone goes by the two, which it never sees.
    pub(crate) fn read(path: &Path, inner: &Inner) -> Result<Self, CheckpointError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let read = |name: &str| {
            let file = folder.join(name);
            file.is_file().then(|| Config::from_file(&file)).transpose()
        };
        let mut settings = Self { file: path.to_path_buf(), ..Self::default() };
        let config = read("tokenizer_config.json")?;
        if let Some(config) = &config {
            settings.add_special_tokens(config);
            settings.chat = config.get("chat_template").and_then(ChatTemplates::from_config).unwrap_or_default();
            if config.opt_str("tokenizer_class")?.is_some_and(|class| class.starts_with("GPTNeoXTokenizer")) {
                (settings.add_bos, settings.add_eos) = (Some(false), Some(false));
            }
        }
        // Newer files have all tokens in the first one, and say so with this key.
        if config.is_none_or(|config| config.get("added_tokens_decoder").is_none()) {
            read("special_tokens_map.json")?.iter().for_each(|map| settings.add_special_tokens(map));
        }
        if let Some(chat) = ChatTemplates::from_files(folder)? {
            settings.chat = chat;
        }
        for name in ["generation_config.json", "config.json"] {
            settings.stop_ids.extend(read(name)?.iter().flat_map(|config| config.token_ids("eos_token_id")));
        }
        settings.stop_ids.extend(settings.special_tokens.get("eos_token").and_then(|eos| inner.token_to_id(eos)));
        settings.stop_ids.sort_unstable();
        settings.stop_ids.dedup();
        Ok(settings)
    }

    /// The same beside a `tokenizer.model`, which has no post-processor: there the two keys count.
    pub(crate) fn read_with_frame(path: &Path, inner: &Inner) -> Result<Self, CheckpointError> {
        let mut settings = Self::read(path, inner)?;
        let file = path.with_file_name("tokenizer_config.json");
        if file.is_file() {
            let config = Config::from_file(&file)?;
            settings.add_bos = config.get("add_bos_token").and_then(Value::as_bool);
            settings.add_eos = config.get("add_eos_token").and_then(Value::as_bool);
        }
        Ok(settings)
    }

    /// Adds every `…_token` of a file, those of `extra_special_tokens` by name among them.
    fn add_special_tokens(&mut self, config: &Config) {
        let extra = config.get("extra_special_tokens").and_then(Value::as_object);
        let named = config.raw().as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
        for (name, value) in named.chain(extra.into_iter().flatten()) {
            // Either the text itself, or an object with the text in it.
            let text = value.get("content").unwrap_or(value).as_str();
            self.special_tokens.extend(text.map(|text| (name.clone(), text.to_owned())));
        }
    }
}
