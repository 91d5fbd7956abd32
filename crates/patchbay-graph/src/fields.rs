//! The fields of a JSON object, taken out one by one, so that one which nobody took is found.

use serde_json::{Map, Value};

use crate::problem::{Code, Problem, Result};

/// Takes typed fields out of an object, and in the end finds those that nobody knows.
pub struct Fields<'a> {
    what: &'a str,
    object: &'a Map<String, Value>,
    known: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// The fields of `what`, which names the object in messages.
    pub fn new(what: &'a str, object: &'a Map<String, Value>) -> Self {
        Self { what, object, known: Vec::new() }
    }

    /// A field that may be absent; null counts as absent.
    pub fn get(&mut self, name: &'a str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub fn need(&mut self, name: &'a str) -> Result<&'a Value> {
        let what = self.what;
        self.get(name).ok_or_else(|| Problem::new(Code::MissingField, format!("{what} needs the field `{name}`")))
    }

    /// A string.
    pub fn text(&mut self, name: &'a str) -> Result<Option<&'a str>> {
        let convert = |value: &'a Value| value.as_str().ok_or_else(|| wrong(name, "a string", value));
        self.get(name).map(convert).transpose()
    }

    /// True or false.
    pub fn flag(&mut self, name: &'a str) -> Result<Option<bool>> {
        self.get(name).map(|value| value.as_bool().ok_or_else(|| wrong(name, "true or false", value))).transpose()
    }

    /// A number.
    pub fn number(&mut self, name: &'a str) -> Result<Option<f64>> {
        let convert = |value: &Value| value.as_f64().ok_or_else(|| wrong(name, "a number", value));
        self.get(name).map(convert).transpose()
    }

    /// A whole number that is not negative.
    pub fn count(&mut self, name: &'a str) -> Result<Option<usize>> {
        let convert = |value: &Value| {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or_else(|| wrong(name, "a whole number, 0 or more", value))
        };
        self.get(name).map(convert).transpose()
    }

    /// Finds a field that was not asked for.
    pub fn finish(self) -> Result<()> {
        match self.object.keys().find(|key| !self.known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let problem = Problem::new(Code::UnknownField, format!("{} has no field `{key}`", self.what));
                Err(problem.suggest(key, self.known).under(key))
            }
        }
    }
}

/// A field of the wrong kind.
pub fn wrong(name: &str, expected: &str, found: &Value) -> Problem {
    Problem::new(Code::BadArgument, format!("`{name}` is {expected}, found {}", brief(found))).under(name)
}

/// A value as messages show it.
pub(crate) fn brief(value: &Value) -> String {
    let shown = value.to_string();
    match shown.char_indices().nth(60) {
        None => shown,
        Some((end, _)) => format!("{}…", &shown[..end]),
    }
}
