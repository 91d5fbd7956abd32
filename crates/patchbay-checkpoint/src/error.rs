//! Everything that can be wrong with a model on disk, said so that the reader knows which file to mend, and how.

use std::fmt;
use std::path::{Path, PathBuf};

/// What went wrong while a model was found, downloaded, opened or read, or while text was turned into tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The text that names a model is none of the forms [`Source`](crate::Source) knows.
    #[error(
        "`{text}` names no model: {reason}. Give a folder with a config.json, a .gguf file, or a Hub id `org/name[@revision]`"
    )]
    Source {
        /// What the user wrote.
        text: String,
        /// Why it cannot be one of the three forms.
        reason: String,
    },
    /// The operating system refused a file.
    #[error("{}: cannot {doing}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried, as a verb: "open", "read", "map".
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that a model cannot be without is not there.
    #[error("{}: there is no {file}. {hint}", .folder.display())]
    MissingFile {
        /// Where it was looked for.
        folder: PathBuf,
        /// Its name.
        file: String,
        /// How to mend it.
        hint: String,
    },
    /// A file's bytes are not what its format demands: cut off, overlapping, lying about a length.
    #[error("{}: {detail}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What was found, where, and what was expected.
        detail: String,
    },
    /// The file is well formed, but holds something this program does not read.
    #[error("{}: {what} is not supported{}", .file.display(), Known(.known))]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// What was found.
        what: String,
        /// What would have been read, if that is a short list.
        known: Vec<String>,
    },
    /// The weights are quantised in a way that is not read.
    #[error(
        "{}: weights quantised with \"{method}\"{} are not read (8-bit floats with scales, MXFP4 and GGUF files are). \
         Load the unquantised model they were made from, or a GGUF file of it", .file.display(), Detail(.what)
    )]
    Quantized {
        /// The configuration that says so.
        file: PathBuf,
        /// The method's name, its `quant_method`.
        method: String,
        /// What of the method it is, as "4 bits", where that is said.
        what: Option<String>,
    },
    /// A key of a configuration is absent or of the wrong kind.
    #[error("{}: `{key}` is {found}, but must be {expected}", .file.display())]
    Config {
        /// The configuration's file.
        file: PathBuf,
        /// The key, dotted where it lies in a section.
        key: String,
        /// What stands there.
        found: String,
        /// What must stand there.
        expected: String,
    },
    /// The weights hold no tensor of this name.
    #[error("{}: there is no tensor `{name}`{}", .file.display(), Nearest(.nearest))]
    MissingTensor {
        /// The weights' file or folder.
        file: PathBuf,
        /// The name asked for.
        name: String,
        /// The most similar names that exist.
        nearest: Vec<String>,
    },
    /// A tensor is there, but of another shape.
    #[error("{}: tensor `{name}` has shape {found:?}, but the configuration makes it {expected:?}", .file.display())]
    Shape {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape asked for.
        expected: Vec<usize>,
    },
    /// A tensor is there, but could not be turned into numbers of the wanted type on the wanted device.
    #[error("{}: tensor `{name}` cannot be read: {source}", .file.display())]
    Tensor {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// The reason.
        source: Box<candle_core::Error>,
    },
    /// A tokenizer's file or metadata cannot be made into a tokenizer, or the tokenizer failed on a text.
    #[error("{}: the tokenizer {doing}: {detail}", .file.display())]
    Tokenizer {
        /// The tokenizer's file.
        file: PathBuf,
        /// What it could not do: "cannot be built", "cannot encode", "cannot decode".
        doing: &'static str,
        /// The reason.
        detail: String,
    },
    /// A token id that the tokenizer has no token for.
    #[error("there is no token {id}: the vocabulary has ids 0 to {}", .vocab.saturating_sub(1))]
    TokenId {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// Messages cannot be rendered: the model has no chat template, or the template refused them.
    #[error("{}: the chat template {detail}", .file.display())]
    Chat {
        /// Where the template comes from.
        file: PathBuf,
        /// What is wrong, in the template's own words where it has any.
        detail: String,
    },
    /// The Hub, or the cache of it, does not have what was asked for, or does not give it.
    #[error("{id}{} on the Hub: {detail}. {hint}", Revision(.revision))]
    Hub {
        /// The model's id.
        id: String,
        /// The revision asked for.
        revision: Option<String>,
        /// What happened.
        detail: String,
        /// How to mend it.
        hint: String,
    },
}

impl CheckpointError {
    pub(crate) fn io(file: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| Self::Io { file, doing, source }
    }

    pub(crate) fn malformed(file: &Path, detail: impl Into<String>) -> Self {
        Self::Malformed { file: file.to_path_buf(), detail: detail.into() }
    }

    pub(crate) fn tokenizer(file: &Path, doing: &'static str) -> impl FnOnce(tokenizers::Error) -> Self {
        let file = file.to_path_buf();
        move |source| Self::Tokenizer { file, doing, detail: source.to_string() }
    }
}

/// The end of a sentence that lists what is known.
struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (supported: {})", self.0.join(", ")) }
    }
}

/// The end of a sentence that offers similar names.
struct Nearest<'a>(&'a [String]);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; the nearest are `{}`", self.0.join("`, `")) }
    }
}

/// More about what was named before, in brackets.
struct Detail<'a>(&'a Option<String>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |detail| write!(f, " ({detail})"))
    }
}

struct Revision<'a>(&'a Option<String>);

impl fmt::Display for Revision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}
