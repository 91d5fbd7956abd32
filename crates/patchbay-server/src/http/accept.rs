//! The `Accept` header, as far as it chooses between JSON and safetensors.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use patchbay_graph::Encoding;

use crate::Failure;
use crate::wire::{SAFETENSORS, SVG};

/// Safetensors where the caller prefers it to JSON (RFC 9110, section 12.5.1), else nothing. Where neither is accepted
/// the answer is JSON all the same, which says more than a 406.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accept(pub(super) Option<Encoding>);

impl<S: Sync> FromRequestParts<S> for Accept {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(preferred(&parts.headers)))
    }
}

/// What is sent of an answer: itself, or its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The answer.
    Answer,
    /// Its picture, as SVG: `?format=svg`, or `Accept: image/svg+xml`.
    Svg,
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("format="));
        match query {
            Some("svg") => Ok(Self::Svg),
            Some("json") => Ok(Self::Answer),
            Some(other) => {
                let failure = Failure::new(422, "bad_argument", format!("there is no format `{other}`"));
                Err(failure.hint("`?format=svg` gives a picture; `output` says how tensors are written"))
            }
            None => {
                let accepts = parts.headers.get_all(ACCEPT).iter().filter_map(|header| header.to_str().ok());
                let svg = accepts.flat_map(|header| header.split(',')).map(weighted);
                let svg = svg.into_iter().any(|(media, quality)| quality > 0.0 && media.eq_ignore_ascii_case(SVG));
                Ok(if svg { Self::Svg } else { Self::Answer })
            }
        }
    }
}

fn preferred(headers: &HeaderMap) -> Option<Encoding> {
    let (mut safetensors, mut json) = (0.0, 0.0f32);
    for header in headers.get_all(ACCEPT) {
        for range in header.to_str().unwrap_or_default().split(',') {
            let (media, quality) = weighted(range);
            if media.eq_ignore_ascii_case(SAFETENSORS) {
                safetensors = quality;
            } else if media.eq_ignore_ascii_case("application/json") {
                json = json.max(quality);
            }
        }
    }
    (safetensors > 0.0 && safetensors >= json).then_some(Encoding::Safetensors)
}

/// `application/json;q=0.5` → the media range and its weight, 1 without one.
fn weighted(range: &str) -> (&str, f32) {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (media, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_is_given_where_it_is_preferred() {
        for (accept, safetensors) in [
            ("application/vnd.safetensors", true),
            ("Application/Vnd.Safetensors", true),
            ("application/vnd.safetensors, application/json;q=0.5", true),
            ("application/json, application/vnd.safetensors;q=0.9", false),
            ("application/vnd.safetensors;q=0", false),
            ("*/*", false),
            ("application/vnd.safetensors, */*;q=0.1", true),
            ("text/html", false),
            ("", false),
            (";;;,,q=", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(preferred(&headers).is_some(), safetensors, "{accept}");
        }
        assert_eq!(preferred(&HeaderMap::new()), None);
    }
}
