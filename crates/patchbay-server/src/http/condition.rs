//! `If-Match` and `If-None-Match`.

use axum::extract::FromRequestParts;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;

use crate::precondition::{Precondition, Tags};

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let tags = |name: HeaderName| {
            let lines: Vec<&str> = parts.headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
            (!lines.is_empty()).then(|| Tags::parse(&lines.join(",")))
        };
        Ok(Self { matches: tags(IF_MATCH), none_match: tags(IF_NONE_MATCH) })
    }
}
