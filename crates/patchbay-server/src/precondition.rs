//! What a caller expects a name to hold before it is changed: `If-Match` and `If-None-Match` (RFC 9110, section 13).

use crate::Failure;

/// What a name is expected to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// One of these.
    pub matches: Option<Tags>,
    /// None of these.
    pub none_match: Option<Tags>,
}

/// Versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Whatever there is.
    Any,
    /// One of a list.
    Listed(Vec<String>),
}

impl Tags {
    /// Reads `*`, or a list of entity tags. A weak tag names its version all the same, as equal versions here have equal bytes.
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            "*" => Self::Any,
            text => Self::Listed(text.split(',').map(|tag| tag.trim().trim_start_matches("W/").to_owned()).collect()),
        }
    }

    /// Whether a version is among them.
    pub fn has(&self, etag: Option<&str>) -> bool {
        match (self, etag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Listed(tags), Some(etag)) => tags.iter().any(|tag| tag == etag),
        }
    }
}

impl Precondition {
    /// Whether a name holds what is expected: a version, or nothing.
    ///
    /// # Errors
    /// Status 412.
    pub fn check(&self, name: &str, etag: Option<&str>) -> Result<(), Failure> {
        let holds = self.matches.as_ref().is_none_or(|tags| tags.has(etag))
            && self.none_match.as_ref().is_none_or(|tags| !tags.has(etag));
        if holds {
            return Ok(());
        }
        let found = etag.map_or("nothing".to_owned(), |etag| format!("the version {etag}"));
        Err(Failure::new(412, "precondition_failed", format!("`{name}` holds {found}, which is not what was expected"))
            .hint("GET it anew, and send its `ETag` as `If-Match`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_http_has_it() {
        let holds = |matches: Option<&str>, none_match: Option<&str>, etag| {
            let expected = Precondition { matches: matches.map(Tags::parse), none_match: none_match.map(Tags::parse) };
            expected.check("calm", etag).is_ok()
        };
        let a = Some("\"a\"");
        for (matches, none_match, etag, expected) in [
            (None, None, None, true),
            (Some("*"), None, None, false),
            (Some("*"), None, a, true),
            (Some("\"b\", \"a\""), None, a, true),
            (Some("\"b\""), None, a, false),
            (None, Some("*"), None, true),
            (None, Some("*"), a, false),
            (None, Some("W/\"a\""), a, false),
            (None, Some("\"b\""), a, true),
        ] {
            assert_eq!(holds(matches, none_match, etag), expected, "{matches:?} {none_match:?} {etag:?}");
        }
    }
}
