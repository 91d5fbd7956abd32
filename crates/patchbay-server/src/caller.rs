//! Who asks.

use std::sync::Arc;

/// The caller of a request. Each has tensors of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller(Arc<str>);

impl Caller {
    /// The name under which it takes turns with others.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The only caller of a server that has no keys, and of the command line.
    pub fn local() -> Self {
        Self("local".into())
    }
}
