//! Answers that are sent while they are written.
//!
//! A thread writes the body in pieces, never many ahead of what the client has taken. A body whose length is known before is sent with
//! it, and so is one of one piece; a fault before the second piece is still answered with its status, and a later one cuts the connection, so that
//! nobody takes half an answer for a whole one.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::accept::Format;
use crate::Failure;
use crate::blocking::blocking;
use crate::recipes::picture::svg;
use crate::wire::SVG;
use crate::wire::trace::TraceAnswer;

/// Bytes that the first piece is likely to have, as most answers are short.
const FIRST: usize = 4 << 10;
/// Bytes in a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the client.
const AHEAD: usize = 2;
/// How long a client may take nothing.
const STALL: Duration = Duration::from_secs(60);

/// Sends an answer, or its picture.
pub(super) async fn send_as(answer: Arc<TraceAnswer>, format: Format) -> Result<Response<Body>, Failure> {
    match format {
        Format::Answer => send(answer).await,
        Format::Svg => {
            let drawn = blocking(move || svg(&answer)).await?;
            Ok(([(CONTENT_TYPE, HeaderValue::from_static(SVG))], drawn).into_response())
        }
    }
}

/// Sends an answer.
pub(super) async fn send(answer: Arc<TraceAnswer>) -> Result<Response<Body>, Failure> {
    let media_type = HeaderValue::from_static(answer.media_type());
    if answer.is_short() {
        return Ok(([(CONTENT_TYPE, media_type)], answer.bytes()?).into_response());
    }
    let (sender, mut pieces) = channel(AHEAD);
    let runtime = Handle::current();
    let length = Arc::new(OnceLock::new());
    let known = Arc::clone(&length);
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Pieces { piece: Vec::new(), room: FIRST, sender, runtime };
        answer.write(&mut out, |length| {
            known.get_or_init(|| length);
        })?;
        out.flush()
    });
    let first = pieces.recv().await.unwrap_or_default();
    let Some(second) = pieces.recv().await else {
        written(writing.await)?;
        return Ok(([(CONTENT_TYPE, media_type)], first).into_response());
    };
    let left = length.get().copied();
    let body = Streamed { waiting: [Some(first), Some(second)], left, pieces, writing: Some(writing) };
    Ok(([(CONTENT_TYPE, media_type)], Body::new(body)).into_response())
}

fn written(outcome: Result<io::Result<()>, tokio::task::JoinError>) -> io::Result<()> {
    outcome.map_err(io::Error::other)?
}

/// Where the writer writes.
struct Pieces {
    piece: Vec<u8>,
    /// Bytes that it is likely to have.
    room: usize,
    sender: Sender<Bytes>,
    runtime: Handle,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(self.room.max(bytes.len()));
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.room = self.piece.len();
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
    /// Bytes that are to come, where that is known.
    left: Option<u64>,
    pieces: Receiver<Bytes>,
    /// The writer, until its end was seen.
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let waiting = self.waiting.iter_mut().find_map(Option::take);
        let piece = match waiting {
            None => ready!(self.pieces.poll_recv(context)),
            waiting => waiting,
        };
        if let Some(piece) = piece {
            self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(writing) = &mut self.writing else { return Poll::Ready(None) };
        let outcome = ready!(Pin::new(writing).poll(context));
        self.writing = None;
        Poll::Ready(written(outcome).err().map(Err))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
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
    fn answer(numbers: usize, there: usize) -> Arc<TraceAnswer> {
        encoded(numbers, there, Encoding::Safetensors)
    }

    fn encoded(numbers: usize, there: usize, encoding: Encoding) -> Arc<TraceAnswer> {
        let mut spool = Spool::new();
        spool.append(&vec![1; 4 * there]).unwrap();
        let tensor = WireTensor::spooled(spool, DType::F32, vec![numbers], None);
        let result = Style { encoding, convert: None, tokenizer: None }.tensor(tensor);
        let response = TraceResponse {
            id: "t".into(),
            model: "m".into(),
            outputs: None,
            results: NamedResults(vec![("x".into(), result)]),
            inputs: Vec::new(),
            receipts: Vec::new(),
            usage: Usage::default(),
            seed: None,
            session: None,
            warnings: Vec::new(),
            notes: Default::default(),
        };
        Arc::new(TraceAnswer { response, encoding, held: None, picture: None })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_have_a_length_where_it_is_known_and_come_whole() {
        for (numbers, encoding, known) in [
            (10, Encoding::Safetensors, true),
            (10, Encoding::Json, true),
            (3_000_000, Encoding::Safetensors, true),
            (300_000, Encoding::Json, false),
        ] {
            let bytes = encoded(numbers, numbers, encoding).bytes().unwrap();
            let response = send(encoded(numbers, numbers, encoding)).await.unwrap();
            let length = http_body::Body::size_hint(response.body()).exact();
            assert_eq!(length, known.then_some(bytes.len() as u64));
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
