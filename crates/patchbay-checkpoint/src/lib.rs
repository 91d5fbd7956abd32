//! What a model is on disk: its configuration, its weights and its tokenizer.
//!
//! A model comes as a folder in the Hugging Face layout, as one GGUF file, or from the Hub; [`open`] makes the same three
//! things of each, under Hugging Face's names, so that nothing later has to know where a model came from:
//!
//! ```no_run
//! use patchbay_checkpoint::{HubSettings, Source, open};
//!
//! let source = Source::parse("org/name@main")?;
//! let checkpoint = open(&source, &HubSettings::default(), &|event| println!("{event:?}"))?;
//! println!("a {} of {} parameters", checkpoint.config.model_type()?, checkpoint.weights.parameters());
//! if let Some(tokenizer) = &checkpoint.tokenizer {
//!     println!("{:?}", tokenizer.encode("The capital of France is", true)?.tokens);
//! }
//! # Ok::<(), patchbay_checkpoint::CheckpointError>(())
//! ```
//!
//! Files are not trusted. A length that lies, a tensor that overlaps another, an index that points out of its folder or
//! a file that was cut off is a [`CheckpointError`] that names the file and says how to mend it, never a panic and never
//! an allocation that the file's own size does not justify.

mod chat;
mod config;
mod error;
mod gguf;
mod hub;
mod mmap;
mod mxfp4;
mod progress;
mod quantization;
mod sentencepiece;
mod source;
mod tokenizer;
mod vocabulary;
mod weights;

pub use chat::ChatOptions;
pub use config::Config;
pub use error::CheckpointError;
pub use hub::HubSettings;
pub use progress::{Progress, ProgressEvent};
pub use source::Source;
pub use tokenizer::{Encoding, Tokenizer};
pub use weights::{Part, Weights};

use quantization::Quantization;

use std::path::{Path, PathBuf};

/// A model, opened: headers are read and checked, weights are still on disk.
#[derive(Debug)]
pub struct Checkpoint {
    /// The configuration, under Hugging Face's keys whatever the format.
    pub config: Config,
    /// The weights, under Hugging Face's names and in its layout whatever the format.
    pub weights: Weights,
    /// The tokenizer; a model may come without.
    pub tokenizer: Option<Tokenizer>,
    /// The folder or file it was opened from; for a model of the Hub, the folder in the cache.
    pub origin: PathBuf,
}

/// Opens a model, downloading it first where it is on the Hub. Blocks; may be called from any thread.
///
/// # Errors
/// Any [`CheckpointError`] that the model's files give cause for.
pub fn open(source: &Source, hub: &HubSettings, progress: Progress<'_>) -> Result<Checkpoint, CheckpointError> {
    match source {
        Source::Folder(folder) => open_folder(folder, progress),
        Source::Gguf(file) => open_gguf(file, progress),
        Source::Hub { id, revision } => open_folder(&hub::fetch(id, revision.as_deref(), hub, progress)?, progress),
    }
}

fn open_folder(folder: &Path, progress: Progress<'_>) -> Result<Checkpoint, CheckpointError> {
    let config = folder.join("config.json");
    if !config.is_file() {
        return Err(CheckpointError::MissingFile {
            folder: folder.to_path_buf(),
            file: "config.json".to_owned(),
            hint: "Give the folder that holds it, or a .gguf file".to_owned(),
        });
    }
    let config = Config::from_file(&config)?;
    let quantization = Quantization::read(&config)?;
    let weights = Weights::open_folder(folder, quantization.as_ref(), progress)?;
    let tokenizer = tokenizer_in(folder, progress)?;
    Ok(Checkpoint { config, weights, tokenizer, origin: folder.to_path_buf() })
}

/// A tokenizer in the first form that a folder has it in.
fn tokenizer_in(folder: &Path, progress: Progress<'_>) -> Result<Option<Tokenizer>, CheckpointError> {
    let forms: [(_, fn(&Path) -> _); 2] =
        [("tokenizer.json", Tokenizer::from_file), ("tokenizer.model", sentencepiece::read)];
    for (name, read) in forms {
        let file = folder.join(name);
        if file.is_file() {
            progress(ProgressEvent { stage: "tokenizer", what: name.to_owned(), done: 0, total: 0 });
            return read(&file).map(Some);
        }
    }
    Ok(None)
}

fn open_gguf(file: &Path, progress: Progress<'_>) -> Result<Checkpoint, CheckpointError> {
    let what = || file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    progress(ProgressEvent { stage: "open", what: what(), done: 0, total: 1 });
    let gguf = gguf::GgufFile::open(file)?;
    let (config, names) = gguf::config(&gguf)?;
    let weights = Weights::from_gguf(&gguf, &names)?;
    progress(ProgressEvent { stage: "tokenizer", what: what(), done: 0, total: 0 });
    let tokenizer = gguf::tokenizer(&gguf)?;
    Ok(Checkpoint { config, weights, tokenizer, origin: file.to_path_buf() })
}
