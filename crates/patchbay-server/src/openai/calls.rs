//! Calls of tools in what a model writes, found while it writes.

use std::sync::Arc;

use patchbay_checkpoint::Tokenizer;

use super::dialect::{Call, Dialect};
use super::tools::Tools;

/// Finds calls in the texts of one request.
#[derive(Clone, Debug)]
pub(crate) struct CallReader {
    pub(crate) dialect: Dialect,
    pub(crate) tools: Arc<Tools>,
    tokenizer: Arc<Tokenizer>,
    /// The token that calls begin with, where it is a special one, which texts leave out.
    marker: Option<u32>,
}

/// A row as far as it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowText {
    ids: Vec<u32>,
    text: String,
    /// Bytes of the text that were told.
    told: usize,
    calls: bool,
}

impl CallReader {
    pub(crate) fn new(dialect: Dialect, tools: Arc<Tools>, tokenizer: Arc<Tokenizer>) -> Self {
        let marker = tokenizer.id(dialect.marker()).filter(|id| tokenizer.is_special(*id));
        Self { dialect, tools, tokenizer, marker }
    }

    /// What a whole text says, and which calls are in it.
    pub(crate) fn whole(&self, ids: &[u32], text: &str) -> (String, Vec<Call>) {
        let spelled = self.marker.filter(|marker| ids.contains(marker)).and_then(|_| {
            let ends = |id: &&u32| !self.tokenizer.stop_ids().contains(id);
            let ids: Vec<u32> = ids.iter().filter(ends).copied().collect();
            self.tokenizer.decode(&ids, false).ok()
        });
        let found = self.dialect.read(spelled.as_deref().unwrap_or(text), &self.tools);
        found.unwrap_or_else(|| (text.to_owned(), Vec::new()))
    }

    /// Takes in a token and the text that came with it; gives the text that is no part of a call.
    pub(crate) fn push(&self, row: &mut RowText, id: u32, text: &str) -> String {
        row.ids.push(id);
        row.text.push_str(text);
        row.calls |= Some(id) == self.marker;
        let rest = &row.text[row.told..];
        let until = match self.dialect {
            _ if row.calls => 0,
            // a call is all that there is
            Dialect::Bare => match row.text.trim_start().chars().next() {
                None | Some('{') => 0,
                Some(_) => rest.len(),
            },
            dialect => match rest.find(dialect.marker()) {
                Some(at) => {
                    row.calls = true;
                    rest[..at].trim_end().len()
                }
                None => rest.len() - begun(rest, dialect.marker()),
            },
        };
        let told = rest[..until].to_owned();
        row.told += until;
        told
    }

    /// What is left to tell at the end, and the calls.
    pub(crate) fn finish(&self, row: &RowText) -> (String, Vec<Call>) {
        let (said, calls) = self.whole(&row.ids, &row.text);
        (said.get(row.told..).unwrap_or_default().to_owned(), calls)
    }
}

/// Bytes at the end that may be the beginning of the marker, with the blanks before it.
fn begun(text: &str, marker: &str) -> usize {
    let most = marker.len().min(text.len());
    let begun = (1..=most).rev().find(|len| marker.is_char_boundary(*len) && text.ends_with(&marker[..*len]));
    let rest = &text[..text.len() - begun.unwrap_or(0)];
    text.len() - rest.trim_end().len()
}
