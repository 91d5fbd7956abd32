//! Where each part of the JSON stands in the text that it came from.

use crate::problem::{Code, Problem};

/// Where a value stands, and the values within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Place of the first character, in bytes.
    pub(super) at: usize,
    /// What stands within.
    pub(super) below: Below,
}

/// The values within a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// None that have a place of their own.
    Nothing,
    /// Those of a list.
    Items(Vec<Span>),
    /// Those of an object: the name, where it stands, and the value.
    Fields(Vec<(String, usize, Span)>),
}

/// A graph's text, and where its nodes and their parts stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMap {
    source: String,
    graph: Span,
}

impl SourceMap {
    pub(super) fn new(source: &str, graph: Span) -> Self {
        Self { source: source.into(), graph }
    }

    /// Line and column, from 1 and in characters, of the smallest part of the text that holds what a JSON pointer such as
    /// `/graph/3/value` points to; none where the pointer leads to no node.
    pub fn locate(&self, pointer: &str) -> Option<(usize, usize)> {
        let (at, _) = self.offsets(pointer)?;
        let place = Place::new(&self.source, at);
        Some((place.line, place.column))
    }

    /// The place of what a pointer points to, and that of its name.
    fn offsets(&self, pointer: &str) -> Option<(usize, usize)> {
        let mut keys = pointer.strip_prefix("/graph/")?.split('/');
        let (mut name, mut span) = self.graph.child(keys.next()?)?;
        for key in keys {
            match span.child(key) {
                Some(child) => (name, span) = child,
                None => break,
            }
        }
        Some((span.at, name))
    }
}

impl Span {
    /// The value under a key, and where the key stands.
    fn child(&self, key: &str) -> Option<(usize, &Self)> {
        match &self.below {
            Below::Nothing => None,
            Below::Items(items) => items.get(key.parse::<usize>().ok()?).map(|span| (span.at, span)),
            Below::Fields(fields) => {
                let key = key.replace("~1", "/").replace("~0", "~");
                fields.iter().find(|(name, ..)| *name == key).map(|(_, at, span)| (*at, span))
            }
        }
    }
}

impl Problem {
    /// The problem as the sender of a text sees it: a pointer into the nodes becomes line and column, and the detail shows
    /// the line. A problem that has its place, or none in the nodes, stays as it is.
    #[must_use]
    pub fn in_text(self, text: &SourceMap) -> Self {
        match (self.line, text.offsets(&self.pointer)) {
            (None, Some((_, name))) if self.code == Code::UnknownField => located(self, &text.source, name),
            (None, Some((at, _))) => located(self, &text.source, at),
            _ => self,
        }
    }
}

/// Gives a problem its place in a text. The pointer is to the text, which is what the request has there.
pub(super) fn located(mut problem: Problem, source: &str, at: usize) -> Problem {
    let place = Place::new(source, at);
    problem.detail = format!("{}\n{place}", problem.detail);
    problem.line = Some(place.line);
    problem.column = Some(place.column);
    problem.at("/graph")
}

/// A place in a text.
struct Place<'a> {
    line: usize,
    column: usize,
    text: &'a str,
}

/// How much of a line is shown, in characters.
const SHOWN: usize = 100;
/// How much of a long line is shown before the place.
const BEFORE: usize = 60;

impl<'a> Place<'a> {
    fn new(source: &'a str, at: usize) -> Self {
        let at = (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
        let (before, after) = source.split_at(at);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let end = after.find('\n').map_or(source.len(), |end| before.len() + end);
        Self {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[start..].chars().count() + 1,
            text: &source[start..end],
        }
    }
}

impl std::fmt::Display for Place<'_> {
    /// The line, and a caret under the place.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let skipped = if self.column > SHOWN { self.column - BEFORE } else { 0 };
        let mut shown: Vec<char> = self.text.trim_end().chars().skip(skipped).take(SHOWN + 1).collect();
        if shown.len() > SHOWN {
            shown[SHOWN] = '…';
        }
        if skipped > 0 {
            shown[0] = '…';
        }
        let shown: String = shown.iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
        let line = self.line.to_string();
        let caret = " ".repeat(self.column - 1 - skipped);
        write!(f, " {line} | {}\n {:2$} | {caret}^", shown.trim_end(), "", line.len())
    }
}
