//! Work that would hold up other requests if it ran on the async runtime's own threads.

use crate::Failure;

/// Runs `work` on the runtime's pool of blocking threads. A panic in it is a failure of this request only.
pub(crate) async fn blocking<T, W>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::internal(error)),
    }
}
