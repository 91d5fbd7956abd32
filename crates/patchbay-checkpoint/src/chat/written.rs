//! Values written as Python writes them: `repr`, `str` and `json.dumps`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::filters::argument;

/// How deep lists and objects may lie in one another.
const DEEPEST: usize = 200;

/// The items of a value, each paid for: a list may be one that is made only now, and of any length.
pub(super) fn items(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        items.push(item);
    }
    Ok(items)
}

/// `str(value)`.
pub(super) fn str_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => Ok(float(value)),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let mut text = String::new();
            repr(state, value, &mut text, DEEPEST)?;
            Ok(text)
        }
        _ => Ok(value.to_string()),
    }
}

fn repr(state: &State<'_, '_>, value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    let deeper = depth.checked_sub(1).ok_or_else(too_deep)?;
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default(), text),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            text.push(open);
            let items = items(state, value)?;
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { ", " });
                repr(state, item, text, deeper)?;
            }
            text.push_str(if value.is_tuple() && items.len() == 1 { "," } else { "" });
            text.push(close);
        }
        ValueKind::Map => {
            text.push('{');
            for (i, key) in items(state, value)?.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { ", " });
                repr(state, key, text, deeper)?;
                text.push_str(": ");
                repr(state, &value.get_item(key)?, text, deeper)?;
            }
            text.push('}');
        }
        _ => text.push_str(&str_of(state, value)?),
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value lies more than {DEEPEST} lists and objects deep"))
}

/// `repr` of a string.
fn quote(string: &str, text: &mut String) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for character in string.chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' => text.push_str("\\\\"),
            _ if character == quote => text.extend(['\\', quote]),
            _ if is_printable(character) => text.push(character),
            _ => match u32::from(character) {
                code @ ..0x100 => text.push_str(&format!("\\x{code:02x}")),
                code @ ..0x10000 => text.push_str(&format!("\\u{code:04x}")),
                code => text.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    text.push(quote);
}

/// Whether Python shows a character as it is: no control, no space but the plain one, no format character, not private.
fn is_printable(character: char) -> bool {
    let formats = matches!(character, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0001}'..='\u{E007F}');
    let private = matches!(character, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..);
    character == ' ' || !(character.is_control() || character.is_whitespace() || formats || private)
}

/// `repr` of a number that is no integer.
fn float(value: &Value) -> String {
    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let short = format!("{number:e}");
    let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent @ -4..16 => format!("{number:?}").replace(&format!("e{exponent}"), ""),
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

/// The filter `tojson` as transformers has it: `json.dumps(x, ensure_ascii, indent, separators, sort_keys)`, where characters
/// beyond ASCII stand for themselves if nothing else is said.
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    ascii: Option<Value>,
    indent: Option<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let argument = |place, name| Ok::<_, Error>(argument(place, name, &named)?.filter(|value| !value.is_none()));
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ascii = is_true(argument(ascii, "ensure_ascii")?);
    let sorted = is_true(argument(None, "sort_keys")?);
    let indent = argument(indent, "indent")?.map(|indent| match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(indent.as_usize().unwrap_or(0).min(64)),
    });
    let separators = argument(None, "separators")?
        .map(|pair| -> Result<Vec<String>, Error> { Ok(items(state, &pair)?.iter().map(Value::to_string).collect()) });
    named.assert_all_used()?;
    let (item, key) = match separators.transpose()?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two strings")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut json = Json { ascii, indent, item, key, sorted, text: String::new() };
    json.write(state, value, 0)?;
    Ok(json.text)
}

/// JSON being written.
struct Json {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
    text: String,
}

impl Json {
    fn write(&mut self, state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = items(state, value)?;
                self.list('[', ']', depth, items, |json, item, depth| json.write(state, &item, depth))?;
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in items(state, value)? {
                    pairs.push((scalar(&key)?, value.get_item(&key)?));
                }
                if self.sorted {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list('{', '}', depth, pairs, |json, (key, value), depth| {
                    json.string(&key);
                    json.text.push_str(&json.key.clone());
                    json.write(state, &value, depth)
                })?;
            }
            _ => self.text.push_str(&scalar(value)?),
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: Vec<T>,
        write: impl Fn(&mut Self, T, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_empty = items.is_empty();
        self.text.push(open);
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.text.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            write(self, item, depth + 1)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    /// A new line, where there are lines.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for character in string.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{C}' => self.text.push_str("\\f"),
                '\0'..' ' => self.escape(character),
                '\u{7F}'.. if self.ascii => self.escape(character),
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.text.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

/// A value without parts, as JSON has it; as a key, a string stands for itself.
fn scalar(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => match float(value).as_str() {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            number => number.to_owned(),
        },
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        other => return Err(Error::new(ErrorKind::BadSerialization, format!("tojson: JSON has no {other}"))),
    })
}
