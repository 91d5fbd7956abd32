//! How a generation goes on with a session.

use std::sync::Arc;
use std::time::Duration;

use patchbay_generate::{Beginning, Planner};
use patchbay_graph::fields::{Fields, wrong};
use patchbay_graph::problem::{Code, Problem, Result};
use patchbay_graph::{InputRow, Request, TokenRow};
use serde_json::Value;

use crate::Failure;
use crate::inputs::Tokenized;
use crate::model::Loaded;
use crate::sessions::Session;

/// How long a session is kept where nothing is said.
const KEEP: Duration = Duration::from_secs(600);
/// How long it may be kept.
const LONGEST: u64 = 3600;

/// From where a generation goes on.
#[derive(Debug)]
pub(super) struct GoesOn {
    pub(super) id: String,
    /// The only row to go on with.
    row: Option<usize>,
    /// How many of its tokens it goes on behind, from the end where negative; all where nothing is said.
    at: Option<i64>,
}

/// A row that was understood: the tokens to compute, and those before them.
pub(super) type Row = (TokenRow, Beginning);

impl GoesOn {
    /// Of the field `session`: an id, or `{"id", "row", "at"}`.
    pub(super) fn parse(value: &Value) -> Result<Self> {
        match value {
            Value::String(id) => Ok(Self { id: id.clone(), row: None, at: None }),
            Value::Object(object) => {
                let mut fields = Fields::new("`session`", object);
                let below = |problem: Problem| problem.under("session");
                let id = fields.need("id").map_err(below)?;
                let id = id.as_str().ok_or_else(|| below(wrong("id", "a session's id", id)))?.to_owned();
                let row = fields.count("row").map_err(below)?;
                let whole =
                    |value: &Value| value.as_i64().ok_or_else(|| wrong("at", "a whole number of tokens", value));
                let at = fields.get("at").map(whole).transpose().map_err(below)?;
                fields.finish().map_err(below)?;
                Ok(Self { id, row, at })
            }
            value => Err(wrong("session", "a session's id, or {\"id\": …, \"row\": 0, \"at\": 12}", value)),
        }
    }

    /// The rows of a generation that goes on with a session: each of the session's rows with one of the input's, or one of them with any
    /// number. A conversation is the whole of it, and has in common with the session what it has in common.
    pub(super) fn rows(
        &self,
        session: &Session,
        model: &Loaded,
        request: &Request,
        tokenized: Tokenized,
    ) -> std::result::Result<Vec<Row>, Failure> {
        let (Some(rows), Some(ids), Some(input)) =
            (tokenized.rows.into_iter().next(), tokenized.ids.into_iter().next(), request.inputs.first())
        else {
            return Err(Failure::internal("a generation without an input"));
        };
        let sources = self.sources(session)?;
        let (there, given) = (sources.len(), ids.len());
        if there != given && there != 1 && given != 1 {
            let detail = format!("the session has {there} rows, and the input has {given}");
            let hint = "give one row for each, one for all, or say which `row` of the session to go on with";
            return Err(Problem::new(Code::ShapeMismatch, detail).hint(hint).at(&input.at).into());
        }
        let row = |place: usize| {
            let (source, given_row) = (sources[place.min(there - 1)], place.min(given - 1));
            let (ids, row) = (&ids[given_row], &rows.rows[given_row]);
            let whole = matches!(input.rows[given_row], InputRow::Messages(_));
            let keeps =
                |tokens: usize, more: usize| self.keeps(model, request, session.rows[source].written, tokens, more);
            self.row(&session.rows[source], (ids, row, whole), keeps).map_err(|problem| {
                if problem.pointer.is_empty() { problem.at(input.place(given_row)) } else { problem }
            })
        };
        Ok((0..there.max(given)).map(row).collect::<Result<_>>()?)
    }

    /// The rows of the session that are gone on with.
    fn sources(&self, session: &Session) -> Result<Vec<usize>> {
        let count = session.rows.len();
        match self.row {
            None => Ok((0..count).collect()),
            Some(row) if row < count => Ok(vec![row]),
            Some(row) => {
                let problem = Problem::new(Code::IndexOutOfRange, format!("the session has no row {row}"));
                Err(problem.hint(format!("it has rows 0 to {}", count - 1)).at("/session/row"))
            }
        }
    }

    /// Whether keys of so many tokens stay when so many more come: where they depend on how many there are, they are made again
    /// from the tokens alone, if nothing else is known of them.
    fn keeps(&self, model: &Loaded, request: &Request, written: bool, tokens: usize, more: usize) -> bool {
        let again = model.engine.decoder().begins_again(tokens, tokens + more);
        !again || written || !request.graph.is_empty()
    }

    /// A row that goes on with one of the session's.
    fn row(
        &self,
        source: &patchbay_generate::Sequence,
        (ids, row, whole): (&[u32], &TokenRow, bool),
        keeps: impl Fn(usize, usize) -> bool,
    ) -> Result<Row> {
        let length = source.ids.len();
        let at = self.at.unwrap_or(length as i64);
        let at = if at < 0 { at + length as i64 } else { at };
        let Some(at) = usize::try_from(at).ok().filter(|at| *at <= length) else {
            let problem = Problem::new(Code::IndexOutOfRange, format!("this row of the session has {length} tokens"));
            return Err(problem
                .hint(format!("`at` is 0 to {length}, or from the end, -{length} to -1"))
                .at("/session/at"));
        };
        // all tokens of the row, and how many of them may be known
        let (tokens, known) = match whole {
            true => (ids.to_vec(), ids.iter().zip(&source.ids[..at]).take_while(|(a, b)| a == b).count()),
            false => ([&source.ids[..at], ids].concat(), at),
        };
        let known = known.min(source.history.cache().tokens()).min(tokens.len().saturating_sub(1));
        let known = if keeps(known, tokens.len() - known.min(tokens.len())) { known } else { 0 };
        if tokens.is_empty() {
            return Err(Problem::new(Code::BadArgument, "this row has no tokens").hint("give at least one"));
        }
        let begun = Beginning {
            past: tokens[..known].to_vec(),
            history: source.history.fork(known),
            written: source.written && known > 0,
            prompt: tokens[known..].to_vec(),
        };
        let new = if whole { cut(row, known) } else { row.clone() };
        // tokens of the session that are computed again stand for no text of the input
        let ends = std::iter::repeat_n(0, begun.prompt.len() - new.len()).chain(new.ends).collect();
        Ok((TokenRow { text: new.text, ends, past: known, ..TokenRow::default() }, begun))
    }
}

/// A row without its first tokens and their text.
fn cut(row: &TokenRow, tokens: usize) -> TokenRow {
    let bytes = tokens.checked_sub(1).map_or(0, |last| row.ends[last]);
    let ends = row.ends[tokens..].iter().map(|end| end.saturating_sub(bytes)).collect();
    TokenRow { text: row.text.get(bytes..).unwrap_or_default().to_owned(), ends, ..TokenRow::default() }
}

/// Reads how long a generation is kept.
pub(super) fn keep(value: Option<&Value>) -> Result<Option<Duration>> {
    match value {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(KEEP)),
        Some(value) => match value.as_u64() {
            Some(seconds) if (1..=LONGEST).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
            Some(_) => Err(Problem::new(Code::BadArgument, format!("`keep` is 1 to {LONGEST} seconds")).under("keep")),
            None => Err(wrong("keep", "true, or a whole number of seconds", value)),
        },
    }
}

/// Whether a generation has all keys that it looks on.
///
/// # Errors
/// Blocks run that had not run in the session.
pub(super) fn check_skips(session: &Session, planner: &Planner) -> Result<()> {
    let skipped = planner.skipped();
    match session.skipped.difference(&skipped).next() {
        None => Ok(()),
        Some(layer) => {
            let detail = format!("the block {layer} did not run in the session, so there are no keys of its tokens");
            let hint = format!("skip it here, too: {{\"op\": \"skip\", \"layers\": {layer}}}");
            Err(Problem::new(Code::SkippedBlock, detail).hint(hint).at("/session"))
        }
    }
}

/// The session of a body, of the same model.
pub(super) fn of_model(session: Arc<Session>, model: &Arc<Loaded>, name: &str) -> Result<Arc<Session>> {
    match session.is_of(model) {
        true => Ok(session),
        false => {
            let detail = format!("this session is of `{}`, and not of `{name}`", session.model());
            Err(Problem::new(Code::BadArgument, detail).hint("keys of one model say nothing to another").at("/session"))
        }
    }
}
