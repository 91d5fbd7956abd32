//! Indices as NumPy writes them: `[:, -1]`, `[0, 2:5]`, `[..., [1, 7]]`, and on a token axis `[:, ' France']`.

use std::fmt;
use std::sync::Arc;

use crate::problem::{Code, Problem, Result};

/// What stands between the brackets, one item an axis.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Index(pub Vec<Item>);

/// One item of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// One place; the axis is dropped.
    At(Coord),
    /// `start:stop:step`.
    Span {
        /// First place, or the axis's own end.
        start: Option<i64>,
        /// The place before which to stop.
        stop: Option<i64>,
        /// Distance from one place to the next; not 0.
        step: i64,
    },
    /// A list of places. Several lists in one index are paired, as NumPy pairs them.
    List(Vec<Coord>),
    /// A list of places that keeps its axis whatever else is listed (`numpy.ix_`). Not written in indices: `steer` needs it.
    Each(Vec<Coord>),
    /// `...`: as many whole axes as are left.
    Ellipsis,
    /// `None`: a new axis of size 1.
    NewAxis,
}

/// One place on an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coord {
    /// A position; negative ones count from the end.
    Int(i64),
    /// On a token axis: the last token of the last place where the text stands.
    Text(String),
    /// A place of its own in every row; nothing in rows that do not have it now. Not written in indices: it stands for a
    /// position of a sequence that is computed in several passes.
    Found(Arc<[Option<usize>]>),
}

impl Item {
    /// The whole axis.
    pub const ALL: Self = Self::Span { start: None, stop: None, step: 1 };
}

impl Index {
    /// Parses `[…]`, brackets included.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, at: 0 };
        let index = parser.index()?;
        if parser.at < text.len() {
            return Err(parser.wrong("nothing more"));
        }
        Ok(index)
    }

    /// How many quoted texts it has.
    pub fn texts(&self) -> usize {
        self.0.iter().map(Item::texts).sum()
    }

    /// Whether it selects everything.
    pub fn is_all(&self) -> bool {
        self.0.iter().all(|item| *item == Item::ALL || *item == Item::Ellipsis)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn index(&mut self) -> Result<Index> {
        self.expect('[')?;
        let mut items = Vec::new();
        loop {
            if self.accept("]") {
                break;
            }
            items.push(self.item()?);
            if !self.accept(",") {
                self.expect(']')?;
                break;
            }
        }
        if items.is_empty() {
            return Err(self.wrong("at least one item"));
        }
        if items.iter().filter(|item| **item == Item::Ellipsis).count() > 1 {
            return Err(self.wrong("at most one `...`"));
        }
        Ok(Index(items))
    }

    fn item(&mut self) -> Result<Item> {
        if self.accept("...") {
            return Ok(Item::Ellipsis);
        }
        if self.accept("None") {
            return Ok(Item::NewAxis);
        }
        if self.accept("[") {
            return self.list().map(Item::List);
        }
        if matches!(self.peek(), Some('\'' | '"')) {
            return self.quoted().map(|text| Item::At(Coord::Text(text)));
        }
        let start = self.integer()?;
        if !self.accept(":") {
            return match start {
                Some(place) => Ok(Item::At(Coord::Int(place))),
                None => Err(self.wrong("a number, a slice, a list, a quoted text, `...` or `None`")),
            };
        }
        let stop = self.integer()?;
        let step = if self.accept(":") { self.integer()?.unwrap_or(1) } else { 1 };
        if step == 0 {
            return Err(self.wrong("a step other than 0"));
        }
        Ok(Item::Span { start, stop, step })
    }

    fn list(&mut self) -> Result<Vec<Coord>> {
        let mut places = Vec::new();
        while !self.accept("]") {
            let place = match self.peek() {
                Some('\'' | '"') => Coord::Text(self.quoted()?),
                _ => Coord::Int(self.integer()?.ok_or_else(|| self.wrong("a number or a quoted text"))?),
            };
            places.push(place);
            if !self.accept(",") {
                self.expect(']')?;
                break;
            }
        }
        Ok(places)
    }

    fn integer(&mut self) -> Result<Option<i64>> {
        self.space();
        let rest = &self.text[self.at..];
        let digits = rest.trim_start_matches(['-', '+']);
        let sign = rest.len() - digits.len();
        let len = sign + digits.bytes().take_while(u8::is_ascii_digit).count();
        if len == 0 {
            return Ok(None);
        }
        let value = rest[..len].parse().map_err(|_| self.wrong("a whole number of 64 bits"))?;
        self.at += len;
        Ok(Some(value))
    }

    fn quoted(&mut self) -> Result<String> {
        let quote = self.peek().ok_or_else(|| self.wrong("a quoted text"))?;
        self.at += 1;
        let mut out = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some(c) => out.push(c),
                    None => break,
                },
                c if c == quote => {
                    self.at += offset + 1;
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        Err(self.wrong("a closing quote"))
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.space();
        self.text[self.at..].chars().next()
    }

    fn accept(&mut self, token: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: char) -> Result<()> {
        if self.accept(token.encode_utf8(&mut [0; 4])) {
            return Ok(());
        }
        Err(self.wrong(&format!("`{token}`")))
    }

    fn wrong(&self, expected: &str) -> Problem {
        let found = match self.text[self.at..].chars().next() {
            Some(c) => format!("`{c}`"),
            None => "the end".to_owned(),
        };
        let at = self.text[..self.at].chars().count();
        Problem::new(
            Code::BadIndex,
            format!("index `{}`: expected {expected} at character {at}, found {found}", self.text),
        )
        .hint("an index is written as in NumPy: `[:, -1]`, `[0, 2:5]`, `[..., [1, 7]]`")
    }
}

impl Item {
    /// The places that it names one by one.
    pub(crate) fn coords(&self) -> &[Coord] {
        match self {
            Self::At(coord) => std::slice::from_ref(coord),
            Self::List(coords) | Self::Each(coords) => coords,
            Self::Span { .. } | Self::Ellipsis | Self::NewAxis => &[],
        }
    }

    /// How many quoted texts it has.
    pub fn texts(&self) -> usize {
        self.coords().iter().filter(|coord| matches!(coord, Coord::Text(_))).count()
    }
}

impl fmt::Display for Coord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(place) => write!(f, "{place}"),
            Self::Text(text) => {
                let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\t', "\\t");
                write!(f, "'{escaped}'")
            }
            Self::Found(_) => f.write_str("?"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(place) => write!(f, "{place}"),
            Self::Span { start, stop, step } => {
                let show = |place: &Option<i64>| place.map_or(String::new(), |place| place.to_string());
                write!(f, "{}:{}", show(start), show(stop))?;
                if *step == 1 { Ok(()) } else { write!(f, ":{step}") }
            }
            Self::List(places) | Self::Each(places) => {
                let places: Vec<String> = places.iter().map(Coord::to_string).collect();
                write!(f, "[{}]", places.join(", "))
            }
            Self::Ellipsis => f.write_str("..."),
            Self::NewAxis => f.write_str("None"),
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(Item::to_string).collect();
        write!(f, "[{}]", items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_numpy_writes() {
        for text in ["[:, -1]", "[0, 2:5]", "[..., [1, 7]]", "[::-1]", "[None, 3]", "[:, ' France']", "[[0, -1], 2:]"] {
            assert_eq!(Index::parse(text).unwrap().to_string(), text);
        }
        let quoted = Index::parse(r#"[:, 'it\'s']"#).unwrap();
        assert_eq!(quoted.0[1], Item::At(Coord::Text("it's".into())));
        assert_eq!(Index::parse(&quoted.to_string()).unwrap(), quoted);
    }

    #[test]
    fn says_where_it_goes_wrong() {
        for (text, expected) in [
            ("[:, -1", "`]`"),
            ("[]", "at least one item"),
            ("[1:2:0]", "a step other than 0"),
            ("[a]", "a number"),
            ("[..., ...]", "at most one"),
            ("['x]", "closing quote"),
            ("[0] [1]", "nothing more"),
            ("[99999999999999999999]", "64 bits"),
        ] {
            let problem = Index::parse(text).unwrap_err();
            assert!(problem.detail.contains(expected), "{text}: {problem}");
        }
    }
}
