//! Names in paths.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::Failure;

/// The name that stands in a path.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(Failure::new(400, "malformed", format!("the path cannot be read: {error}"))),
        }
    }
}
