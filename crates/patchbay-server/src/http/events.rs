//! Server-sent events of a generation.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Serialize;

use crate::Failure;
use crate::generation::{Generating, Told};
use crate::wire::result::NamedResults;

/// How often a line is sent while nothing happens, so that a client that has gone is noticed.
pub(super) const BEAT: Duration = Duration::from_secs(5);

/// What a step saved.
#[derive(Serialize)]
struct Saved {
    step: usize,
    results: NamedResults,
}

/// A generation as events, until its end. A client that goes away drops it, which stops it before its next step.
pub(super) fn told(generating: Generating) -> Response<Body> {
    Sse::new(events(generating)).keep_alive(KeepAlive::new().interval(BEAT)).into_response()
}

fn events(generating: Generating) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(generating), async |state| {
        let mut generating = state?;
        let (event, goes_on) = match generating.next().await {
            Ok(Told::Token(token)) => (event("token", &token), true),
            Ok(Told::Saved(step, results)) => (event("saved", &Saved { step, results }), true),
            Ok(Told::Done(response)) => (event("done", &response), false),
            Err(failure) => (event("error", &failure.to_problem()), false),
        };
        Some((Ok(event), goes_on.then_some(generating)))
    })
}

/// An event, and its data as JSON.
pub(super) fn event(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    event.json_data(data).unwrap_or_else(|error| {
        let problem = Failure::internal(error).to_problem();
        Event::default().event("error").json_data(problem).unwrap_or_default()
    })
}
