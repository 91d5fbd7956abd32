//! What can go wrong while a model is built from its files.

use std::path::PathBuf;

use patchbay_checkpoint::CheckpointError;

use crate::precision::Precision;

/// Why a model could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file, a setting in it or a tensor is missing or wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No architecture of this name is known.
    #[error(
        "{}: `model_type` is \"{found}\", which is not supported{}; supported are {}",
        .file.display(), Nearest(.nearest), .supported.join(", ")
    )]
    UnknownModelType {
        /// The configuration's file.
        file: PathBuf,
        /// The name that stands there.
        found: String,
        /// The most similar name that is known, if one is similar.
        nearest: Option<&'static str>,
        /// All names that are known.
        supported: Vec<&'static str>,
    },
    /// The configuration's sizes do not fit one another.
    #[error("{}: {detail}", .file.display())]
    Inconsistent {
        /// The configuration's file.
        file: PathBuf,
        /// Which sizes, and what they have to be.
        detail: String,
    },
    /// The device's kernels do not read such weights.
    #[error("weights as {precision} are for the cpu alone; take f32, bf16 or f16 on other devices")]
    Precision {
        /// What was asked for.
        precision: Precision,
    },
    /// The environment names instructions that this machine does not have.
    #[error("PATCHBAY_INSTRUCTIONS: there is no \"{name}\" on this machine; there is {}", .there.join(", "))]
    Instructions {
        /// What was asked for.
        name: String,
        /// What there is, the best first.
        there: Vec<&'static str>,
    },
    /// A tensor operation failed, as when the device is out of memory.
    #[error("building the model failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// "; did you mean …", where there is something to mean.
struct Nearest<'a>(&'a Option<&'static str>);

impl std::fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " (did you mean \"{name}\"?)"))
    }
}
