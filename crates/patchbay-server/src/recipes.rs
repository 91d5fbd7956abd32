//! Recipes: analyses that are made into traces and run as such.

mod parts;
pub(crate) mod picture;

use std::sync::Arc;

use patchbay_checkpoint::Tokenizer;
use patchbay_graph::problem::{Code, Problem};
use patchbay_graph::{Encoding, Request};
use patchbay_model::spec::NormKind;
use patchbay_recipes::{Ask, Made, NAMES};
use serde_json::{Value, json};

use self::picture::Drawn;
use crate::blocking::blocking;
use crate::caller::Caller;
use crate::model::Loaded;
use crate::progress::Progress;
use crate::wire::generation::OutputBody;
use crate::wire::result::{NamedResults, ResultBody};
use crate::wire::trace::TraceAnswer;
use crate::{Failure, Service};

/// What comes of a recipe.
pub(crate) enum Cooked {
    /// The trace that it is.
    Explained(Value),
    /// What the trace gave.
    Answered(Box<TraceAnswer>),
}

impl Service {
    /// Runs a recipe. The answer is that of a trace, written as the body says, or else as `accept` does.
    ///
    /// # Errors
    /// Status 404 for an unknown recipe; else as a trace, with pointers into the recipe's body.
    pub async fn analyse(
        self: &Arc<Self>,
        name: &str,
        body: Value,
        accept: Option<Encoding>,
        caller: &Caller,
    ) -> Result<TraceAnswer, Failure> {
        match self.recipe(name.to_owned(), body, accept, caller, &Progress::default()).await? {
            Cooked::Answered(answer) => Ok(*answer),
            Cooked::Explained(_) => {
                let failure =
                    Failure::new(422, "invalid_type", "a recipe that is explained gives no results".to_owned());
                Err(failure.at("/explain").hint("leave `explain` out"))
            }
        }
    }

    /// Makes a recipe into a trace and runs it, or only tells it.
    ///
    /// # Errors
    /// Status 404 for an unknown recipe; else as a trace, with pointers into the recipe's body.
    pub(crate) async fn recipe(
        self: &Arc<Self>,
        name: String,
        body: Value,
        accept: Option<Encoding>,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<Cooked, Failure> {
        if !NAMES.contains(&name.as_str()) {
            let failure = Failure::new(404, "unknown_recipe", format!("there is no recipe `{name}`"));
            return Err(failure.hint("GET /v1/recipes lists them").suggest(&name, NAMES));
        }
        let explains = body.get("explain") == Some(&Value::Bool(true));
        let (service, owner) = (Arc::clone(self), caller.clone());
        let recipe = name.clone();
        let (made, tokenizer) = blocking(move || service.make(&name, &body, &owner)).await?;
        if explains {
            return Ok(Cooked::Explained(made.explained()));
        }
        let placed = |failure: Failure| match &failure.pointer {
            Some(pointer) => {
                let pointer = made.place(pointer);
                failure.at(pointer)
            }
            None => failure,
        };
        let in_parts = match made.rows_apart {
            Some(axis) => self.in_parts(&made, axis, accept, caller, progress).await.map_err(&placed)?,
            None => None,
        };
        let mut answer = match (in_parts, made.texts) {
            (Some(answer), _) => answer,
            (None, None) => self.trace_told(made.body(), accept, caller, progress).await.map_err(placed)?,
            (None, Some(texts)) => {
                let generating = self.generate(made.body(), false, accept, caller, progress).await;
                let generating = generating.map_err(&placed)?;
                let mut answer = generating.answer().await.map_err(placed)?;
                answer.response.results = nested(answer.response.outputs.take().unwrap_or_default(), texts);
                answer
            }
        };
        answer.response.notes = made.notes;
        answer.picture = made.picture.map(|picture| Drawn { picture, recipe, tokenizer });
        Ok(Cooked::Answered(Box::new(answer)))
    }

    /// Makes the trace; with the tokenizer of its model, if that has one.
    fn make(&self, name: &str, body: &Value, caller: &Caller) -> Result<(Made, Option<Arc<Tokenizer>>), Failure> {
        let model = body.get("model").and_then(Value::as_str);
        let model = self.choose(model, caller)?.model.ready()?;
        let encode = |text: &str| encode(&model, text);
        let rows = |input: &Value| {
            let request = Request::parse(&json!({"input": input, "graph": []}))?;
            Ok(self.reader(&model, false).read(&request.inputs)?.ids.into_iter().next().unwrap_or_default())
        };
        let norm = model.engine.decoder().spec().final_norm.as_ref();
        let ask = Ask {
            tree: model.tree(),
            centres: norm.is_some_and(|norm| norm.kind == NormKind::Layer),
            store: &self.store.shelf(caller),
            encode: &encode,
            rows: &rows,
        };
        Ok((patchbay_recipes::make(name, body, &ask)?, model.tokenizer.clone()))
    }
}

/// Rows of text by prompt and layer: what they say, their tokens, and the ids of these.
fn nested(outputs: Vec<OutputBody>, [prompts, layers]: [usize; 2]) -> NamedResults {
    let list = |part: &dyn Fn(&OutputBody) -> Value| {
        let prompt = |prompt: usize| outputs.iter().skip(prompt * layers).take(layers).map(part).collect::<Value>();
        ResultBody::Texts((0..prompts).map(prompt).collect())
    };
    let text = list(&|output| json!(output.text));
    let tokens = list(&|output| json!(output.tokens));
    NamedResults(vec![
        ("text".into(), text),
        ("tokens".into(), tokens),
        ("ids".into(), list(&|output| json!(output.ids))),
    ])
}

/// The tokens of a text, without special ones.
fn encode(model: &Loaded, text: &str) -> Result<Vec<u32>, Problem> {
    let tokenizer = model.tokenizer.as_ref().ok_or_else(|| {
        Problem::new(Code::Unsupported, "this model came without a tokenizer, so words have no tokens")
            .hint("give token ids")
    })?;
    let encoded = tokenizer.encode(text, false);
    encoded.map(|encoded| encoded.ids).map_err(|error| Problem::new(Code::BadArgument, error.to_string()))
}
