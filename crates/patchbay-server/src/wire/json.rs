//! Reading JSON strictly: what could be understood in two ways is refused.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::Failure;

/// Parses a body. Refuses, with line and column: what is not JSON, a key that stands twice in one object, text after the
/// end, and nesting deeper than 127.
///
/// # Errors
/// Status 400, code `malformed`.
pub fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::new(400, "malformed", "the body is empty").hint("send a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict::deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value.0));
    value.map_err(|error| {
        let failure = Failure::new(400, "malformed", format!("the body is not valid JSON: {error}"));
        match error.to_string().contains("recursion limit") {
            true => failure.hint("lists and objects may be nested 127 deep"),
            false => failure,
        }
    })
}

/// Reads a value as `T`, with a pointer to the field that does not fit.
///
/// # Errors
/// Status 400, code `malformed`, `unknown_field` or `missing_field`.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let detail = error.inner().to_string();
        let code = match detail.split_once(" field `") {
            Some(("unknown", _)) => "unknown_field",
            Some(("missing", _)) => "missing_field",
            _ => "malformed",
        };
        Failure::new(400, code, detail).at(pointer(error.path()))
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// A JSON value none of whose objects has a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            let Strict(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#"{"a": [1, -2, 3.5, "x", null, true, {"b": {}}], "big": 18446744073709551615}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn refuses_with_line_and_column() {
        for (text, say) in [
            ("{\"a\": 1,\n \"a\": 2}", "\"a\" stands twice in one object at line 2 column 4"),
            ("{\"a\": ", "EOF while parsing"),
            ("{} x", "trailing characters at line 1 column 4"),
            ("  \n", "empty"),
            ("[1e999]", "out of range"),
        ] {
            let failure = parse(text.as_bytes()).unwrap_err();
            assert_eq!((failure.status, failure.code.as_str()), (400, "malformed"));
            assert!(failure.detail.contains(say), "{text:?}: {}", failure.detail);
        }
        assert!(parse(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn refuses_deep_nesting_and_says_how_deep_is_allowed() {
        assert!(parse(format!("{}{}", "[".repeat(120), "]".repeat(120)).as_bytes()).is_ok());
        let failure = parse("[".repeat(100_000).as_bytes()).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("lists and objects may be nested 127 deep"));
    }

    #[test]
    fn fields_that_do_not_fit_are_pointed_to() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            #[allow(dead_code)]
            ids: Vec<u32>,
        }
        let fail = |value| read::<Body>(value).unwrap_err();
        assert_eq!(fail(json!({"ids": [1, -2]})).pointer.as_deref(), Some("/ids/1"));
        assert_eq!(fail(json!({})).code, "missing_field");
        assert_eq!(fail(json!({"ids": [], "x~/y": 1})).code, "unknown_field");
    }
}
