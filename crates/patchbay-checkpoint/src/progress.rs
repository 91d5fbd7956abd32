//! Watching a load.

/// One step of a load, told to whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressEvent {
    /// Which part of the load: `"download"`, `"open"` or `"tokenizer"`.
    pub stage: &'static str,
    /// What is being worked on, such as a file's name.
    pub what: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 where that is not known.
    pub total: u64,
}

/// Something that watches a load. It is called often and from the thread that loads, so it should return at once.
pub type Progress<'a> = &'a (dyn Fn(ProgressEvent) + Send + Sync);
