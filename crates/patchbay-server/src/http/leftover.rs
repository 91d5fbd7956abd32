//! What nobody read of a body.
//!
//! A request may be refused before its body is read. Closing the connection then would cut off a client that is still
//! sending, and most clients look at the answer only once they have sent everything: they would report a broken pipe in
//! place of the reason. So the rest is read and thrown away, within bounds.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

/// How long, and how many bytes, a client may go on sending after it was refused.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST: usize = 1 << 30;

/// Reads to its end the body of every request that is answered before that.
pub(super) async fn read_on(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(Leftover(body)))).await
}

/// A body; what is left of it when it is dropped is read in the background.
struct Leftover(Body);

impl HttpBody for Leftover {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.0);
        if !body.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // A client that goes on for longer is cut off.
            runtime.spawn(tokio::time::timeout(PATIENCE, discard(body)));
        }
    }
}

async fn discard(mut body: Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > MOST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Ten frames that count how many of them were read.
    struct Counted(Arc<AtomicUsize>);

    impl HttpBody for Counted {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            let read = self.0.fetch_add(1, Ordering::SeqCst);
            Poll::Ready((read < 10).then(|| Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_is_read_to_its_end() {
        let read = Arc::new(AtomicUsize::new(0));
        let mut body = Leftover(Body::new(Counted(Arc::clone(&read))));
        let first = BodyExt::frame(&mut body).await.unwrap().unwrap();
        assert_eq!((first.data_ref().map(Bytes::len), read.load(Ordering::SeqCst)), (Some(1), 1));
        drop(body);
        while read.load(Ordering::SeqCst) < 11 {
            tokio::task::yield_now().await;
        }
    }
}
