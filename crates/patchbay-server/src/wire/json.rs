//! Reading JSON strictly: what could be understood in two ways is refused.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::Failure;

/// Values of one body, those inside of others included. A value takes up to 36 times as much memory as it takes text.
const MOST_VALUES: usize = 1 << 24;

/// Parses a body. Refuses, with line and column: what is not JSON, a key that stands twice in one object, text after the
/// end, and nesting deeper than 127.
///
/// # Errors
/// Status 400, code `malformed`; 413, code `too_large`, for more than 2^24 values.
pub fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    parse_up_to(MOST_VALUES, bytes)
}

fn parse_up_to(most: usize, bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::new(400, "malformed", "the body is empty").hint("send a JSON object"));
    }
    let left = Cell::new(most + 1);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(&left).deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        if left.get() == 0 {
            return Failure::new(413, "too_large", format!("the body has more than {most} values"))
                .hint("send large tensors as base64, or keep them with PUT /v1/tensors/{name} as a safetensors file");
        }
        let failure = Failure::new(400, "malformed", format!("the body is not valid JSON: {error}"));
        match error.to_string().contains("recursion limit") {
            true => failure.hint("lists and objects may be nested 127 deep"),
            false => failure,
        }
    })
}

/// Reads an object as `T`, with a pointer to the field that does not fit.
///
/// # Errors
/// Status 400, code `malformed`, `unknown_field` or `missing_field`.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    if !value.is_object() {
        return Err(Failure::new(400, "malformed", "the body is a JSON object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let said = error.inner().to_string();
        let failure = |code, detail: &str| Failure::new(400, code, detail).at(pointer(error.path()));
        match (said.split_once(" field `"), said.split_once(", expected ")) {
            (Some(("unknown", _)), Some((detail, known))) => {
                let found = detail.split('`').nth(1).unwrap_or_default();
                failure("unknown_field", detail).suggest(found, known.split('`').skip(1).step_by(2))
            }
            (Some(("missing", _)), _) => failure("missing_field", &said),
            _ => failure("malformed", &said),
        }
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

/// A JSON value none of whose objects has a key twice, of as many values as are left.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<usize>);

impl Strict<'_> {
    /// Counts one value.
    fn count<E: Error>(self) -> Result<(), E> {
        self.0.set(self.0.get() - 1);
        if self.0.get() == 0 { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
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
        while let Some(item) = items.next_element_seed(self)? {
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
            object.insert(key, entries.next_value_seed(self)?);
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
    fn refuses_more_values_than_memory_is_meant_for() {
        let text = br#"{"a": [1, [], {"b": "x"}], "c": null}"#;
        assert!(parse_up_to(7, text).is_ok());
        let failure = parse_up_to(6, text).unwrap_err();
        assert_eq!((failure.status, failure.code.as_str()), (413, "too_large"));
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
        let unknown = fail(json!({"idz": []}));
        assert_eq!((unknown.code.as_str(), unknown.detail.as_str()), ("unknown_field", "unknown field `idz`"));
        assert_eq!((unknown.pointer.as_deref(), unknown.hint.as_deref()), (Some("/idz"), Some("did you mean `ids`?")));
        assert_eq!(fail(json!([[1]])).detail, "the body is a JSON object");
    }
}
