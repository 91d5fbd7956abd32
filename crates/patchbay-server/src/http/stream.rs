//! Answers that are sent while they are written.
//!
//! A thread writes the body in pieces, never many ahead of what the client has taken. A body of one piece is sent as such, with
//! its length; a fault before the second piece is still answered with its status, and a later one cuts the connection, so that
//! nobody takes half an answer for a whole one.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::wire::trace::TraceAnswer;

/// Bytes in a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the client.
const AHEAD: usize = 2;
/// How long a client may take nothing.
const STALL: Duration = Duration::from_secs(60);

/// Sends an answer.
pub(super) async fn send(answer: TraceAnswer) -> Result<Response<Body>, Failure> {
    let media_type = HeaderValue::from_static(answer.media_type());
    let (sender, mut pieces) = channel(AHEAD);
    let runtime = Handle::current();
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Pieces { piece: Vec::new(), sender, runtime };
        answer.write(&mut out)?;
        out.flush()
    });
    let first = pieces.recv().await.unwrap_or_default();
    let Some(second) = pieces.recv().await else {
        written(writing.await)?;
        return Ok(([(CONTENT_TYPE, media_type)], first).into_response());
    };
    let body = Streamed { waiting: [Some(first), Some(second)], pieces, writing: Some(writing) };
    Ok(([(CONTENT_TYPE, media_type)], Body::new(body)).into_response())
}

fn written(outcome: Result<io::Result<()>, tokio::task::JoinError>) -> io::Result<()> {
    outcome.map_err(io::Error::other)?
}

/// Where the writer writes.
struct Pieces {
    piece: Vec<u8>,
    sender: Sender<Bytes>,
    runtime: Handle,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = async { tokio::time::timeout(STALL, self.sender.send(piece)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A body that is still being written.
struct Streamed {
    /// Pieces that came before it was known that there are several.
    waiting: [Option<Bytes>; 2],
    pieces: Receiver<Bytes>,
    /// The writer, until its end was seen.
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(piece) = self.waiting.iter_mut().find_map(Option::take) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(piece) = ready!(self.pieces.poll_recv(context)) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(writing) = &mut self.writing else { return Poll::Ready(None) };
        let outcome = ready!(Pin::new(writing).poll(context));
        self.writing = None;
        Poll::Ready(written(outcome).err().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use patchbay_engine::Usage;
    use patchbay_graph::{DType, Encoding};

    use super::*;
    use crate::wire::result::{NamedResults, Style};
    use crate::wire::spool::Spool;
    use crate::wire::tensor::WireTensor;
    use crate::wire::trace::TraceResponse;

    /// An answer with a tensor of so many numbers, of which some may be missing.
    fn answer(numbers: usize, there: usize) -> TraceAnswer {
        let encoding = Encoding::Safetensors;
        let mut spool = Spool::new();
        spool.append(&vec![1; 4 * there]).unwrap();
        let tensor = WireTensor::spooled(spool, DType::F32, vec![numbers], None);
        let result = Style { encoding, convert: None, tokenizer: None }.tensor(tensor);
        let response = TraceResponse {
            id: "t".into(),
            model: "m".into(),
            results: NamedResults(vec![("x".into(), result)]),
            inputs: Vec::new(),
            receipts: Vec::new(),
            usage: Usage::default(),
            warnings: Vec::new(),
        };
        TraceAnswer { response, encoding }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn short_answers_have_a_length_and_long_ones_come_whole() {
        for (numbers, whole) in [(10, true), (3_000_000, false)] {
            let bytes = answer(numbers, numbers).bytes().unwrap();
            let response = send(answer(numbers, numbers)).await.unwrap();
            let length = http_body::Body::size_hint(response.body()).exact();
            assert_eq!(length, whole.then_some(bytes.len() as u64));
            assert!(to_bytes(response.into_body(), usize::MAX).await.unwrap() == bytes);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fault_has_a_status_or_cuts_the_answer_off() {
        assert_eq!(send(answer(10, 9)).await.unwrap_err().status, 500);
        let response = send(answer(3_000_000, 2_999_999)).await.unwrap();
        assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
    }
}
