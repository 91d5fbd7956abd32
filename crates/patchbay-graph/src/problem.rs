//! What can be wrong with a request, said so that its sender can mend it.

use std::fmt;

/// The kind of a problem; each has a stable name and an HTTP status class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is not of the form that the protocol gives.
    Malformed,
    /// A field that the protocol does not know.
    UnknownField,
    /// A required field is absent.
    MissingField,
    /// An operation that the language does not have.
    UnknownOp,
    /// A site that this model does not have.
    UnknownSite,
    /// An input that the request does not have.
    UnknownInput,
    /// A node that the graph does not have.
    UnknownNode,
    /// A tensor that the caller's store does not have.
    UnknownTensor,
    /// An index that is not written as an index.
    BadIndex,
    /// An index outside of the axis.
    IndexOutOfRange,
    /// A text that does not stand in a row.
    TextNotFound,
    /// Shapes that do not fit together.
    ShapeMismatch,
    /// A value of a type that cannot stand here.
    DtypeMismatch,
    /// An argument of the wrong kind, or one that the operation does not have.
    BadArgument,
    /// Two nodes with one id.
    DuplicateId,
    /// Two results with one name.
    DuplicateResult,
    /// A node that needs itself.
    Cycle,
    /// A value that would have to flow backwards within one input.
    BackwardFlow,
    /// A node whose value nothing uses.
    UnusedNode,
    /// A write that nothing read can see.
    UnreachableWrite,
    /// A place inside a block that does not run.
    SkippedBlock,
    /// A gradient that does not exist: nothing that has a derivative leads from the site to the number.
    NoGradient,
    /// A write that selects nothing.
    EmptyWrite,
    /// A graph that returns nothing.
    NothingSaved,
    /// More than the server's limits allow.
    TooLarge,
    /// Part of the protocol that this server does not have.
    Unsupported,
}

impl Code {
    /// Every kind.
    pub const ALL: [Self; 26] = [
        Self::Malformed,
        Self::UnknownField,
        Self::MissingField,
        Self::UnknownOp,
        Self::UnknownSite,
        Self::UnknownInput,
        Self::UnknownNode,
        Self::UnknownTensor,
        Self::BadIndex,
        Self::IndexOutOfRange,
        Self::TextNotFound,
        Self::ShapeMismatch,
        Self::DtypeMismatch,
        Self::BadArgument,
        Self::DuplicateId,
        Self::DuplicateResult,
        Self::Cycle,
        Self::BackwardFlow,
        Self::UnusedNode,
        Self::UnreachableWrite,
        Self::SkippedBlock,
        Self::NoGradient,
        Self::EmptyWrite,
        Self::NothingSaved,
        Self::TooLarge,
        Self::Unsupported,
    ];

    /// The stable name, as it stands in the problem's `code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownField => "unknown_field",
            Self::MissingField => "missing_field",
            Self::UnknownOp => "unknown_op",
            Self::UnknownSite => "unknown_site",
            Self::UnknownInput => "unknown_input",
            Self::UnknownNode => "unknown_node",
            Self::UnknownTensor => "unknown_tensor",
            Self::BadIndex => "bad_index",
            Self::IndexOutOfRange => "index_out_of_range",
            Self::TextNotFound => "text_not_found",
            Self::ShapeMismatch => "shape_mismatch",
            Self::DtypeMismatch => "dtype_mismatch",
            Self::BadArgument => "bad_argument",
            Self::DuplicateId => "duplicate_id",
            Self::DuplicateResult => "duplicate_result",
            Self::Cycle => "cycle",
            Self::BackwardFlow => "backward_flow",
            Self::UnusedNode => "unused_node",
            Self::UnreachableWrite => "unreachable_write",
            Self::SkippedBlock => "skipped_block",
            Self::NoGradient => "no_gradient",
            Self::EmptyWrite => "empty_write",
            Self::NothingSaved => "nothing_saved",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
        }
    }

    /// The HTTP status that answers it.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::UnknownField | Self::MissingField => 400,
            Self::UnknownTensor => 404,
            Self::TooLarge => 413,
            _ => 422,
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub code: Code,
    /// What was found and what was expected.
    pub detail: String,
    /// JSON pointer (RFC 6901) to the offending field.
    pub pointer: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// Line of a graph that came as text, from 1.
    pub line: Option<usize>,
    /// Column of that line in characters, from 1.
    pub column: Option<usize>,
}

impl Problem {
    /// A problem whose place the caller adds. What a request quotes at length is cut short.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: shorten(detail.into(), LONGEST_MESSAGE),
            pointer: String::new(),
            hint: None,
            line: None,
            column: None,
        }
    }

    /// Adds a way to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shorten(hint.into(), LONGEST_MESSAGE));
        self
    }

    /// Adds the nearest of the names that would have been right, where one is near, else lists them where they are few.
    #[must_use]
    pub fn suggest<'a>(self, found: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let near = names
            .iter()
            .filter(|name| found.len() <= LONGEST_NAME && name.len() <= LONGEST_NAME)
            .map(|name| (strsim::normalized_damerau_levenshtein(found, name), *name))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(score, _)| *score > 0.5);
        match near {
            Some((_, name)) => self.hint(format!("did you mean `{name}`?")),
            None if names.is_empty() || names.len() > 12 => self,
            None => self.hint(format!("one of {}", list(&names))),
        }
    }

    /// Puts the problem below a place: pointers are built from the inside out.
    #[must_use]
    pub fn under(mut self, place: impl fmt::Display) -> Self {
        self.pointer = format!("/{}{}", escape(&place.to_string()), self.pointer);
        self
    }

    /// Puts the problem below a pointer.
    #[must_use]
    pub fn below(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }

    /// Sets the whole pointer.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = pointer.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        write!(f, "{}", self.detail)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// What checking returns.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// Names beyond this many bytes are not held against each other: the time that takes grows with the square.
const LONGEST_NAME: usize = 64;
/// Characters of a message.
const LONGEST_MESSAGE: usize = 500;

/// A text of at most so many characters; what is cut off leaves an ellipsis.
pub fn shorten(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A key as it stands in a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Names in a row, each in backticks.
pub(crate) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
