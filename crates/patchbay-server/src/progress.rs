//! How far a request is.

use tokio::sync::watch;

/// Parts of a request that have run, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) done: usize,
    pub(crate) of: usize,
}

/// Where a request tells how far it is, if anybody listens. Nothing is told before it was checked and let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    to: Option<watch::Sender<Option<Parts>>>,
    /// How many parts there are, whatever one of them says of itself.
    of: Option<usize>,
}

impl Progress {
    /// One, and where it is heard.
    pub(crate) fn new() -> (Self, watch::Receiver<Option<Parts>>) {
        let (sender, receiver) = watch::channel(None);
        (Self { to: Some(sender), of: None }, receiver)
    }

    /// The same for the first of several runs, which together have so many parts.
    pub(crate) fn of(&self, of: usize) -> Self {
        Self { to: self.to.clone(), of: Some(of) }
    }

    /// Whether anybody listens: it is a job.
    pub(crate) fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// It was checked and let in, and has so many parts.
    pub(crate) fn begun(&self, of: usize) {
        let of = self.of.unwrap_or(of);
        self.tell(|parts| *parts = Some(Parts { of, ..parts.unwrap_or_default() }));
    }

    /// So many more have run.
    pub(crate) fn more(&self, done: usize) {
        self.tell(|parts| {
            let Parts { done: before, of } = parts.unwrap_or_default();
            *parts = Some(Parts { done: (before + done).min(of), of });
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Option<Parts>)) {
        if let Some(sender) = &self.to {
            sender.send_modify(change);
        }
    }
}
