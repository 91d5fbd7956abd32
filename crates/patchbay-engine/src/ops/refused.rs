//! Values that only turn out to be wrong when an operation runs.

use candle_core::Error;
use patchbay_graph::{Code, Problem};

/// A value that an operation cannot take, such as an index out of range: what the request asked for cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) Problem);

/// The error that says so.
pub(super) fn refused(code: Code, detail: String) -> Error {
    Refused(Problem::new(code, detail)).into()
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Io(std::io::Error::new(std::io::ErrorKind::InvalidInput, refused))
    }
}

impl Refused {
    /// What was refused, if the error is about that.
    pub(crate) fn find(error: &Error) -> Option<&Self> {
        match error {
            Error::Io(error) => error.get_ref()?.downcast_ref(),
            Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } | Error::WithPath { inner, .. } => {
                Self::find(inner)
            }
            _ => None,
        }
    }

    /// The error, with the place in the request where it happened.
    pub(crate) fn place(error: Error, at: &str) -> Error {
        match Self::find(&error) {
            Some(Self(problem)) => Self(problem.clone().at(at)).into(),
            None => error,
        }
    }
}
