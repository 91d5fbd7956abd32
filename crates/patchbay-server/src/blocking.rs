//! Work that would hold up other requests if it ran on the async runtime's own threads.

use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};

use crate::Failure;

/// Characters and values of a body that is understood sooner than another thread would wake.
const SHORT: usize = 4 << 10;

/// Runs `work` on the runtime's pool of blocking threads. A panic in it is a failure of this request only.
pub(crate) async fn blocking<T, W>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::internal(error)),
    }
}

/// Finds out what a trace asks for: of a short body here, once the runtime has given this thread's other tasks to another one; of a
/// long one, or a sweep, as [`blocking`] work, so that it is noticed when the client goes away meanwhile. It is for traces alone: the
/// grammar of a generation, or a recipe's graph, may take long however short the body is.
pub(crate) async fn understand<T, W>(body: Value, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(&Value) -> Result<T, Failure> + Send + 'static,
{
    let moves_tasks = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    match moves_tasks && body.get("sweep").is_none() && left(SHORT, &body).is_some() {
        true => block_in_place(|| work(&body)),
        false => blocking(move || work(&body)).await,
    }
}

/// How many of so many characters and values a value leaves; nothing where it has more.
fn left(most: usize, value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => most.checked_sub(text.len()),
        Value::Array(values) => values.iter().try_fold(most.checked_sub(1)?, left),
        Value::Object(fields) => fields.values().try_fold(most.checked_sub(1)?, left),
        _ => most.checked_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_values_count() {
        let body = json!({"input": "twelve chars", "graph": [1, 2, {"k": [[null]]}]});
        assert_eq!((left(25, &body), left(20, &body), left(19, &body)), (Some(5), Some(0), None));
    }
}
