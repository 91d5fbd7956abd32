//! A generation as it was asked for.

use std::borrow::Cow;
use std::time::Duration;

use patchbay_generate::Settings as Wanted;
use patchbay_graph::problem::Code;
use patchbay_graph::{Encoding, Input, Problem, Request};
use serde_json::{Value, json};

use super::session::{GoesOn, keep as keep_time};

/// A generation as it was asked for.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) wanted: Wanted,
    pub(super) streams: bool,
    /// The session that it goes on with.
    pub(super) session: Option<GoesOn>,
    /// How long it is kept.
    pub(super) keep: Option<Duration>,
}

impl Asked {
    /// Reads the body.
    ///
    /// # Errors
    /// Whatever is not as the protocol has it, with a pointer to it.
    pub(super) fn parse(body: &Value) -> Result<Self, Problem> {
        let more = |fields: &mut patchbay_graph::fields::Fields<'_>| {
            let streams = fields.flag("stream")?.unwrap_or(false);
            let session = fields.get("session").map(GoesOn::parse).transpose()?;
            let keep = keep_time(fields.get("keep"))?;
            let grow = fields.text("grow")?.map(str::to_owned);
            Ok((Wanted::parse(fields)?, streams, session, keep, grow))
        };
        let has = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
        // with what a session has, there need not be more
        let body = match has("session") && !has("input") && !has("inputs") && body.is_object() {
            true => {
                let mut body = body.clone();
                body["input"] = json!([[]]);
                Cow::Owned(body)
            }
            false => Cow::Borrowed(body),
        };
        let (mut request, (wanted, streams, session, keep, grow)) = Request::parse_as("a generation", &body, more)?;
        if request.sweep.is_some() {
            let problem = Problem::new(Code::Unsupported, "a generation has no sweep").at("/sweep");
            return Err(problem.hint("send one generation for each combination"));
        }
        let grows = grows(&request.inputs, grow.as_deref())?;
        request.inputs[..=grows].rotate_right(1);
        if streams && request.output.encoding == Some(Encoding::Safetensors) {
            let problem = Problem::new(Code::Unsupported, "a stream has no safetensors").at("/output/encoding");
            return Err(problem.hint("take `base64`, or no stream"));
        }
        Ok(Self { request, wanted, streams, session, keep })
    }
}

/// Number of the input of which text is generated.
fn grows(inputs: &[Input], named: Option<&str>) -> Result<usize, Problem> {
    let names = || inputs.iter().map(|input| input.name.as_str());
    match named {
        None if inputs.len() == 1 => Ok(0),
        None => {
            let problem = Problem::new(Code::MissingField, "it is not said of which input text is generated");
            let name = names().next_back().unwrap_or_default();
            Err(problem
                .hint(format!("name it: `\"grow\": \"{name}\"`; the others are there in step 0 alone"))
                .at("/grow"))
        }
        Some(name) => names().position(|other| other == name).ok_or_else(|| {
            let problem = Problem::new(Code::UnknownInput, format!("there is no input `{name}`"));
            problem.suggest(name, names()).at("/grow")
        }),
    }
}
