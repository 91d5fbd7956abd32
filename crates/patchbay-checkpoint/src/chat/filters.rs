//! Filters and tests of Jinja that minijinja lacks, or has otherwise.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::written::{self, str_of};

/// Adds them.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", written::to_json);
    environment.add_filter("string", str_of);
    environment.add_filter("escape", |text: String| escape(&text));
    environment.add_filter("e", |text: String| escape(&text));
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("indent", indent);
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_test("iterable", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Undefined
        )
    });
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    // Python leaves a tilde as it is. No other text becomes `%7E`: a percent sign is written as `%25`.
    environment.add_filter("urlencode", |value: &Value| -> Result<String, Error> {
        Ok(minijinja::filters::urlencode(value)?.replace("%7E", "~"))
    });
}

/// Writes a value of `{{ … }}`.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            out.write_str(&str_of(state, value)?).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// A text as HTML has it, with the references that Python's markupsafe takes.
fn escape(text: &str) -> String {
    let references = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")];
    references.iter().fold(text.to_owned(), |text, (plain, reference)| text.replace(plain, reference))
}

/// An argument that is given by its place or by its name.
pub(super) fn argument(place: Option<Value>, name: &str, named: &Kwargs) -> Result<Option<Value>, Error> {
    if named.has(name) { named.get(name).map(Some) } else { Ok(place) }
}

/// `value | default('x')`, or with `true` also where the value counts as false.
fn default(value: &Value, other: Option<Value>, falsy: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let other = argument(other, "default_value", &named)?;
    let falsy = argument(falsy, "boolean", &named)?;
    named.assert_all_used()?;
    let is_missing = value.is_undefined() || (falsy.is_some_and(|falsy| falsy.is_true()) && !value.is_true());
    Ok(if is_missing { other.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

/// `int(value)`, or `int(float(value))`, or the default, which is 0.
fn int(value: &Value, other: Option<Value>, base: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let other = argument(other, "default", &named)?;
    let base = argument(base, "base", &named)?.and_then(|base| base.as_usize()).unwrap_or(10) as u32;
    named.assert_all_used()?;
    let whole = |number: f64| (number.abs() < 1e18).then(|| Value::from(number.trunc() as i64));
    let found = match value.as_str().map(str::trim) {
        Some(text) => parse_int(text, base).map(Value::from).or_else(|| whole(text.parse().ok()?)),
        None if value.is_integer() => Some(value.clone()),
        None if matches!(value.kind(), ValueKind::Bool) => Some(Value::from(i64::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok().and_then(whole),
    };
    Ok(found.or(other).unwrap_or_else(|| Value::from(0)))
}

fn parse_int(text: &str, base: u32) -> Option<i64> {
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let lower = digits.to_ascii_lowercase();
    let digits = lower.strip_prefix(prefix).unwrap_or(&lower).replace('_', "");
    (2..=36).contains(&base).then(|| i64::from_str_radix(&digits, base).ok()).flatten()?.checked_mul(sign)
}

/// `float(value)`, or the default, which is 0.
fn float(value: &Value, other: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let other = argument(other, "default", &named)?;
    named.assert_all_used()?;
    let found = match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None if matches!(value.kind(), ValueKind::Bool) => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(found.map(Value::from).or(other).unwrap_or_else(|| Value::from(0.0)))
}

/// Every line but the first after so many spaces, or after a text.
fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<Value>,
    blank: Option<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = argument(width, "width", &named)?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let first = is_true(argument(first, "first", &named)?);
    let blank = is_true(argument(blank, "blank", &named)?);
    named.assert_all_used()?;
    let width = width.unwrap_or_else(|| Value::from(4));
    let before = match (width.as_str(), width.as_usize()) {
        (Some(text), _) if text.len() <= 1 << 8 => text.to_owned(),
        (None, Some(spaces)) if spaces <= 1 << 8 => " ".repeat(spaces),
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "indent: the width is a number or a text of at most 256 characters",
            ));
        }
    };
    let mut indented = String::new();
    // As in Jinja, a line break at the end begins one more line, which is empty.
    for (i, line) in text.split('\n').enumerate() {
        indented.push_str(if i == 0 { "" } else { "\n" });
        let is_indented = if i == 0 { first } else { blank || !line.is_empty() };
        indented.push_str(if is_indented { &before } else { "" });
        indented.push_str(line);
    }
    Ok(indented)
}
