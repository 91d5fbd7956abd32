//! Bodies as they come in: within the limit, whole, and of a media type that says what they are.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::blocking::blocking;
use crate::wire::{JSON, SAFETENSORS, json};
use crate::{Failure, Service};

/// How long a client may pause in the middle of a body.
const PAUSE: Duration = Duration::from_secs(30);

/// Bytes of JSON that are parsed sooner than another thread would wake.
const SHORT: usize = 8 << 10;

/// A body of JSON.
#[derive(Debug)]
pub(super) struct JsonBody(pub(super) Value);

/// A body that holds tensors.
#[derive(Debug)]
pub(super) enum TensorsBody {
    /// As JSON.
    Json(Value),
    /// As a safetensors file.
    Safetensors(Bytes),
}

impl FromRequest<Arc<Service>> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Failure> {
        match media_type(request.headers()).as_str() {
            media if is_json(media) => {}
            media => return Err(unsupported(media, &[JSON])),
        }
        let bytes = read(request, service.settings().body.0).await?;
        match bytes.len() <= SHORT {
            true => json::parse(&bytes).map(Self),
            false => blocking(move || json::parse(&bytes)).await.map(Self),
        }
    }
}

impl FromRequest<Arc<Service>> for TensorsBody {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Failure> {
        let media = media_type(request.headers());
        let json = is_json(&media);
        if !json && ![SAFETENSORS, "application/octet-stream"].contains(&media.as_str()) {
            return Err(unsupported(&media, &[SAFETENSORS, JSON]));
        }
        let bytes = read(request, service.settings().body.0).await?;
        match json {
            true => blocking(move || json::parse(&bytes)).await.map(Self::Json),
            false => Ok(Self::Safetensors(bytes)),
        }
    }
}

/// The media type without its parameters, in lower case; empty where there is none.
fn media_type(headers: &HeaderMap) -> String {
    let header = headers.get(CONTENT_TYPE).and_then(|header| header.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media: &str) -> bool {
    media == JSON || (media.starts_with("application/") && media.ends_with("+json"))
}

/// A page of another site may send a body of no type or of a form's type without asking; one of these it may not.
fn unsupported(found: &str, wanted: &[&str]) -> Failure {
    let detail = match found {
        "" => "the request does not say what its body is".to_owned(),
        found => format!("the body is said to be `{found}`, which is not understood here"),
    };
    let hint = format!("send the header `Content-Type: {}`", wanted.join("` or `Content-Type: "));
    Failure::new(415, "unsupported_media_type", detail).hint(hint)
}

/// The whole body. One that says it is too large is not kept at all.
async fn read(request: Request<Body>, limit: usize) -> Result<Bytes, Failure> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut body = Limited::new(request.into_body(), limit);
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(PAUSE, body.frame()).await {
            Ok(None) => return Ok(bytes.into()),
            Ok(Some(Ok(frame))) => frame.data_ref().into_iter().for_each(|data| bytes.extend_from_slice(data)),
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
            Ok(Some(Err(error))) => {
                return Err(Failure::new(400, "malformed", format!("the body could not be read: {error}")));
            }
            Err(_) => {
                let detail = format!("no more of the body came for {} seconds", PAUSE.as_secs());
                return Err(Failure::new(408, "request_timeout", detail).hint("send it without such pauses"));
            }
        }
    }
}

fn too_large(limit: usize) -> Failure {
    let hint =
        "keep large tensors on the server with PUT /v1/tensors/{name}, or have the operator raise max_body_bytes";
    Failure::new(413, "too_large", format!("the body is longer than max_body_bytes, {limit}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::http::header::CONTENT_TYPE;
    use http_body::Frame;

    use super::*;
    use crate::Settings;

    /// A body that begins and never goes on.
    struct Stalled(Option<Bytes>);

    impl http_body::Body for Stalled {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let body = Body::new(Stalled(Some(Bytes::from_static(b"{"))));
        let request = Request::put("/").header(CONTENT_TYPE, JSON).body(body).unwrap();
        let failure = JsonBody::from_request(request, &Service::new(Settings::default())).await.unwrap_err();
        assert_eq!((failure.status, failure.code.as_str()), (408, "request_timeout"));
    }
}
