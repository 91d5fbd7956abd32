//! Where a model comes from, as the user writes it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::CheckpointError;

/// Where a model comes from: a folder, a `.gguf` file, or a Hub id `org/name[@revision]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A folder in the Hugging Face layout: `config.json`, `*.safetensors`, `tokenizer.json`.
    Folder(PathBuf),
    /// One GGUF file, which holds configuration, weights and tokenizer.
    Gguf(PathBuf),
    /// A repository on the Hugging Face Hub.
    Hub {
        /// `org/name`.
        id: String,
        /// Branch, tag or commit; the default branch where absent.
        revision: Option<String>,
    },
}

impl Source {
    /// Reads what a user wrote. What exists on disk is taken from disk; anything else has to be a Hub id.
    ///
    /// # Errors
    /// [`CheckpointError::Source`] when the text is a path at which nothing lies, or not of the form
    /// `org/name[@revision]`.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let refuse = |reason: &str| Err(CheckpointError::Source { text: text.to_owned(), reason: reason.to_owned() });
        let path = Path::new(text);
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if text.trim().is_empty() {
            return refuse("it is empty");
        }
        if path.is_dir() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        if is_gguf {
            return if path.is_file() { Ok(Self::Gguf(path.to_path_buf())) } else { refuse("no such file exists") };
        }
        if path.is_file() {
            return refuse("it is a file, but not one that ends in .gguf");
        }
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision.to_owned())),
            None => (text, None),
        };
        if revision.as_deref().is_some_and(str::is_empty) {
            return refuse("nothing stands after the @");
        }
        match id.split('/').collect::<Vec<_>>().as_slice() {
            [org, name] if is_hub_name(org) && is_hub_name(name) => Ok(Self::Hub { id: id.to_owned(), revision }),
            _ => refuse("nothing lies at that path, and it is not of the form org/name"),
        }
    }

    /// The name a model gets when the user gives none: the last part of its source, without `.gguf`.
    pub fn default_name(&self) -> String {
        let of_path = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let name = match self {
            // A path such as `.` or `models/..` has a last part only once it is made absolute.
            Self::Folder(path) => of_path(path.file_name()).or_else(|| of_path(path.canonicalize().ok()?.file_name())),
            Self::Gguf(path) => of_path(path.file_stem()),
            Self::Hub { id, .. } => id.rsplit('/').next().map(str::to_owned),
        };
        name.unwrap_or_else(|| "model".to_owned())
    }
}

/// The characters the Hub allows in each half of an id; a half is never `.` or `..`.
fn is_hub_name(part: &str) -> bool {
    !part.is_empty()
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !part.starts_with(['.', '-'])
        && !part.contains("..")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::Gguf(path) => path.display().fmt(f),
            Self::Hub { id, revision: None } => f.write_str(id),
            Self::Hub { id, revision: Some(revision) } => write!(f, "{id}@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_with_and_without_revision() {
        let source = Source::parse("org-x/some.name_1").unwrap();
        assert_eq!(source, Source::Hub { id: "org-x/some.name_1".into(), revision: None });
        let source = Source::parse("org/name@refs/pr/3").unwrap();
        assert_eq!(source, Source::Hub { id: "org/name".into(), revision: Some("refs/pr/3".into()) });
        assert_eq!(source.default_name(), "name");
        assert_eq!(source.to_string(), "org/name@refs/pr/3");
    }

    #[test]
    fn what_is_on_disk_is_taken_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Tiny.Q4_1.gguf");
        std::fs::write(&file, b"").unwrap();
        let source = Source::parse(file.to_str().unwrap()).unwrap();
        assert_eq!((source.default_name().as_str(), &source), ("Tiny.Q4_1", &Source::Gguf(file)));
        assert!(matches!(Source::parse(dir.path().to_str().unwrap()).unwrap(), Source::Folder(_)));
    }

    #[test]
    fn texts_that_name_no_model_are_refused_with_the_forms_that_would() {
        for text in ["", "gpt2", "a/b/c", "../x", "./missing", "org/name@", "no/such.gguf", "org/..", "a b/c"] {
            let message = Source::parse(text).unwrap_err().to_string();
            assert!(message.contains("org/name[@revision]"), "{text}: {message}");
        }
    }
}
