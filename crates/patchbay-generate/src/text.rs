//! Text of tokens that come one by one.

use std::sync::Arc;

use patchbay_checkpoint::Tokenizer;

/// The text of a row's new tokens, and what ends it.
///
/// A token's text depends on its neighbours, so that it is what the tokens so far spell beyond what they spelt without it. While it
/// ends in part of a character it is held back.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Option<Arc<Tokenizer>>,
    stops: Arc<[String]>,
    ids: Vec<u32>,
    /// From here on tokens are spelt again, to see what the next one adds.
    from: usize,
    /// Tokens up to here have their text in `text`.
    read: usize,
    text: String,
    /// Bytes of `text` that were given.
    given: usize,
    stopped: bool,
}

impl TextStream {
    /// Without tokens yet.
    pub fn new(tokenizer: Option<Arc<Tokenizer>>, stops: Arc<[String]>) -> Self {
        Self { tokenizer, stops, ids: Vec::new(), from: 0, read: 0, text: String::new(), given: 0, stopped: false }
    }

    /// Takes in a token, and gives the text that is certain by now. Whether a text has ended it.
    pub fn push(&mut self, id: u32) -> (String, bool) {
        self.ids.push(id);
        let added = self.added();
        if !added.is_empty() && !added.ends_with(char::REPLACEMENT_CHARACTER) {
            (self.from, self.read) = (self.read, self.ids.len());
            self.append(&added);
        }
        let safe = if self.stopped { self.text.len() } else { self.text.len() - self.held_back() };
        (self.give(safe), self.stopped)
    }

    /// Gives what was held back, now that no token follows.
    pub fn finish(&mut self) -> String {
        if !self.stopped {
            let added = self.added();
            self.append(&added);
        }
        self.give(self.text.len())
    }

    /// All of the text so far, what is held back included; none where the model has no tokenizer.
    pub fn text(&self) -> Option<&str> {
        self.tokenizer.as_ref().map(|_| self.text.as_str())
    }

    /// The tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// What the tokens spell beyond what is read.
    fn added(&self) -> String {
        let spell = |ids: &[u32]| Some(self.tokenizer.as_ref()?.decode(ids, true).unwrap_or_default());
        let (before, now) = (spell(&self.ids[self.from..self.read]), spell(&self.ids[self.from..]));
        before.zip(now).and_then(|(before, now)| now.strip_prefix(&before).map(str::to_owned)).unwrap_or_default()
    }

    /// Puts text behind the rest, up to what ends it.
    fn append(&mut self, added: &str) {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(added);
        let end = self.stops.iter().filter_map(|stop| self.text[from..].find(stop.as_str())).min();
        if let Some(end) = end {
            self.text.truncate(from + end);
            self.stopped = true;
        }
    }

    /// Bytes at the end that may be the beginning of a text that ends it.
    fn held_back(&self) -> usize {
        let begun = |stop: &String| {
            let most = stop.len().min(self.text.len());
            (1..=most).rev().find(|len| stop.is_char_boundary(*len) && self.text.ends_with(&stop[..*len]))
        };
        self.stops.iter().filter_map(begun).max().unwrap_or(0)
    }

    fn give(&mut self, until: usize) -> String {
        let given = self.text.get(self.given..until).unwrap_or_default().to_owned();
        self.given += given.len();
        given
    }
}
