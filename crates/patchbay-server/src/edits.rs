//! The callers' edits, kept by name, and the edits that a request names.
//!
//! `"model": "smollm2+calm+terse"` names a model and edits, which are put before the request's graph in this order. A request
//! keeps the edits that it began with, whatever is put or deleted meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use patchbay_graph::problem::{Code, Problem};
use patchbay_graph::{Context, Edit, Input, InputRow, Limits, Request, TokenRow, TokenRows};
use serde_json::Value;

use crate::blocking::blocking;
use crate::caller::Caller;
use crate::model::{Loaded, Model};
use crate::precondition::Precondition;
use crate::wire::edit::EditView;
use crate::{Failure, Service, name};

/// Edits that a caller may keep.
const MAX_EDITS: usize = 1024;
/// Edits that a request may name.
const MAX_NAMED: usize = 16;
/// Bytes of an edit's body, as JSON.
const MAX_BYTES: usize = 1 << 20;
/// Tokens of the row that an edit without an example is checked on, where the model takes so many.
const LONG: usize = 2048;
/// Rows of a batch that an edit is checked on which names rows, and the tokens of each.
const MANY: usize = 64;

/// An edit that is kept.
#[derive(Clone, Debug)]
pub struct KeptEdit {
    /// What it does.
    pub edit: Arc<Edit>,
    /// The body that it came as.
    pub body: Value,
    /// Its version: a hash of the body, in quotes.
    pub etag: String,
    /// The model that it was checked against.
    pub model: String,
}

/// One caller's edits.
type Shelf = BTreeMap<String, Arc<KeptEdit>>;

/// Every caller's edits.
#[derive(Debug, Default)]
pub struct EditStore {
    shelves: RwLock<HashMap<Arc<str>, Shelf>>,
}

/// A model, and the edits that a request runs it with.
pub(crate) struct Chosen {
    pub(crate) model: Arc<Model>,
    /// As the answer names it.
    pub(crate) name: String,
    edits: Vec<(String, Arc<KeptEdit>)>,
}

impl KeptEdit {
    fn parse(body: Value) -> Result<Self, Failure> {
        let text = body.to_string();
        if text.len() > MAX_BYTES {
            let detail = format!("this edit has {} bytes, an edit may have {MAX_BYTES}", text.len());
            return Err(Failure::new(413, "too_large", detail)
                .hint("keep its tensors with PUT /v1/tensors/{name}, and name them here: `@name`"));
        }
        let etag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..16]);
        Ok(Self { edit: Arc::new(Edit::parse(&body)?), body, etag, model: String::new() })
    }
}

impl EditStore {
    /// The caller's edits as they are now.
    pub fn all(&self, caller: &Caller) -> Vec<(String, Arc<KeptEdit>)> {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        let edits = shelves.get(caller.owner()).into_iter().flatten();
        edits.map(|(name, kept)| (name.clone(), Arc::clone(kept))).collect()
    }

    /// The edit of a name.
    ///
    /// # Errors
    /// Status 404 where the caller has no such edit.
    pub fn get(&self, caller: &Caller, name: &str) -> Result<Arc<KeptEdit>, Failure> {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.get(caller.owner());
        let found = shelf.and_then(|shelf| shelf.get(name));
        found.cloned().ok_or_else(|| unknown(name, shelf.into_iter().flat_map(BTreeMap::keys)))
    }

    /// Keeps an edit under a name, in place of what the name held. Returns whether it held something.
    ///
    /// # Errors
    /// Status 412 where the name does not hold what was expected, 413 where there are too many.
    pub fn put(&self, caller: &Caller, name: &str, kept: KeptEdit, expected: &Precondition) -> Result<bool, Failure> {
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry(Arc::clone(caller.owner())).or_default();
        expected.check(name, shelf.get(name).map(|kept| kept.etag.as_str()))?;
        if shelf.len() >= MAX_EDITS && !shelf.contains_key(name) {
            let detail = format!("there are {MAX_EDITS} edits, and there may not be more");
            return Err(Failure::new(413, "too_large", detail).hint("DELETE /v1/edits/{name} frees a name"));
        }
        Ok(shelf.insert(name.to_owned(), Arc::new(kept)).is_some())
    }

    /// Forgets a name.
    ///
    /// # Errors
    /// Status 404 where the caller has no such edit, 412 where it is not the one that was expected.
    pub fn delete(&self, caller: &Caller, name: &str, expected: &Precondition) -> Result<(), Failure> {
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry(Arc::clone(caller.owner())).or_default();
        let Some(kept) = shelf.get(name) else { return Err(unknown(name, shelf.keys())) };
        expected.check(name, Some(&kept.etag))?;
        shelf.remove(name);
        Ok(())
    }
}

fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Failure {
    Failure::new(404, "unknown_edit", format!("there is no edit `{name}`"))
        .hint(format!("PUT /v1/edits/{name} keeps one"))
        .suggest(name, names.map(String::as_str))
}

impl Chosen {
    /// Puts the edits before a request's own nodes.
    pub(crate) fn edit(&self, request: &mut Request) -> Result<(), Problem> {
        let edits: Vec<_> = self.edits.iter().map(|(name, kept)| (name.clone(), Arc::clone(&kept.edit))).collect();
        request.edit(&edits)
    }

    /// Says of a problem in an edit that the edit was made for another model, where it was.
    pub(crate) fn placed(&self, problem: Problem) -> Problem {
        let blamed = self.edits.iter().find(|(name, kept)| {
            kept.model != self.model.name && problem.pointer.starts_with(&format!("/edits/{name}/"))
        });
        match blamed {
            None => problem,
            Some((name, kept)) => {
                let more = format!("the edit `{name}` was made for the model `{}`", kept.model);
                let hint = problem.hint.as_ref().map_or(more.clone(), |hint| format!("{hint}; {more}"));
                problem.hint(hint)
            }
        }
    }
}

impl Service {
    /// The callers' edits.
    pub fn edits(&self) -> &EditStore {
        &self.edits
    }

    /// Keeps an edit that a model takes. Returns whether it took another's place.
    ///
    /// # Errors
    /// Status 422 for a name or an edit that cannot be, 404 for an unknown model, 412, 413.
    pub async fn put_edit(
        self: &Arc<Self>,
        name: String,
        body: Value,
        expected: Precondition,
        caller: &Caller,
    ) -> Result<(bool, EditView), Failure> {
        let (service, caller) = (Arc::clone(self), caller.clone());
        blocking(move || {
            name::check_edit(&name)?;
            let kept = KeptEdit::parse(body)?;
            let model = service.model(kept.edit.model.as_deref())?;
            service.check_edit(&kept.edit, &*model.ready()?, &caller)?;
            let kept = KeptEdit { model: model.name.clone(), ..kept };
            let view = EditView::new(&name, &kept);
            Ok((service.edits.put(&caller, &name, kept, &expected)?, view))
        })
        .await
    }

    /// The model and the edits that a body names.
    ///
    /// # Errors
    /// Status 404 for a model or an edit that is not there.
    pub(crate) fn choose(&self, name: Option<&str>, caller: &Caller) -> Result<Chosen, Failure> {
        let (model, edits) = name.and_then(|name| name.split_once('+')).unzip();
        let model = self.model(model.or(name))?;
        let names: Vec<&str> = edits.into_iter().flat_map(|edits| edits.split('+')).collect();
        if names.len() > MAX_NAMED {
            let detail = format!("a request may name {MAX_NAMED} edits, here are {}", names.len());
            return Err(Failure::new(413, "too_large", detail).at("/model"));
        }
        if let Some(twice) = (1..names.len()).find(|place| names[..*place].contains(&names[*place])) {
            let detail = format!("the edit `{}` is named twice", names[twice]);
            let hint = "give it a parameter for how strong it is";
            return Err(Failure::new(422, "bad_argument", detail).hint(hint).at("/model"));
        }
        let edit = |name: &&str| match self.edits.get(caller, name) {
            Ok(kept) => Ok(((*name).to_owned(), kept)),
            Err(failure) => Err(failure.at("/model")),
        };
        let edits = names.iter().map(edit).collect::<Result<Vec<_>, _>>()?;
        let plus = |(name, _): &(String, _)| format!("+{name}");
        let name = std::iter::once(model.name.clone()).chain(edits.iter().map(plus)).collect();
        Ok(Chosen { model, name, edits })
    }

    /// Checks an edit on its example. Where it has none it is a long row, or a batch for an edit that names rows, as far as that says
    /// something: texts that an edit names stand in prompts.
    fn check_edit(&self, edit: &Edit, model: &Loaded, caller: &Caller) -> Result<(), Failure> {
        if let Some(input) = &edit.example {
            let rows = self.read_inputs(model, std::slice::from_ref(input))?.rows;
            return Ok(self.try_edit(edit, model, input.clone(), rows, caller)?);
        }
        let on = |count: usize, tokens: usize| {
            let tokens = tokens.min(model.tree().context);
            let row = TokenRow { ends: vec![0; tokens], ..TokenRow::default() };
            let input =
                Input { name: "input".into(), at: "/input".into(), rows: vec![InputRow::Ids(Vec::new()); count] };
            let rows = TokenRows { name: input.name.clone(), rows: vec![row; count] };
            self.try_edit(edit, model, input, vec![rows], caller)
        };
        let checked = on(1, LONG).or_else(|problem| match problem.code {
            Code::IndexOutOfRange => on(MANY, MANY).map_err(|_| problem),
            _ => Err(problem),
        });
        match checked {
            Err(problem) if problem.code == Code::TextNotFound => Ok(()),
            Err(problem) if [Code::ShapeMismatch, Code::IndexOutOfRange].contains(&problem.code) => {
                let hint = problem.hint.clone().unwrap_or_default();
                let more = "an edit for prompts of a certain form has one as its `input`, on which it is checked";
                Err(problem.hint(format!("{hint}{}{more}", if hint.is_empty() { "" } else { "; " })).into())
            }
            checked => Ok(checked?),
        }
    }

    /// Checks an edit on an input. What a request may cost is the business of requests.
    fn try_edit(
        &self,
        edit: &Edit,
        model: &Loaded,
        input: Input,
        rows: Vec<TokenRows>,
        caller: &Caller,
    ) -> Result<(), Problem> {
        let shelf = self.store.shelf(caller);
        let limits = Limits { max_result_bytes: u64::MAX, max_peak_bytes: u64::MAX, ..self.settings.limits.clone() };
        let context = Context { tree: model.tree(), inputs: &rows, store: &shelf, limits: &limits };
        patchbay_graph::check(&edit.alone(input)?, &context).map(drop)
    }
}
