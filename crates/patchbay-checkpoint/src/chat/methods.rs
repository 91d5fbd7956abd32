//! Methods of Python's strings, lists and dictionaries that templates call, beyond those that minijinja-contrib has, or as
//! Python has them where it differs.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::written::items;

/// Calls a method that minijinja does not know itself.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (_, Some(text)) => string(state, text, method, args)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => list(state, value, method, args)?,
        (ValueKind::Map, _) if method == "copy" => from_args::<()>(args).map(|()| Some(value.clone()))?,
        _ => None,
    };
    match found {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let cased = |found: Option<usize>| found.map_or(-1, |at| text[..at].chars().count() as i64);
    Ok(Some(match method {
        "split" | "rsplit" => {
            let (separator, most, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = if named.has("sep") { Some(named.get("sep")?) } else { separator };
            let most = if named.has("maxsplit") { named.get("maxsplit")? } else { most };
            named.assert_all_used()?;
            let separator = separator.filter(|separator| !separator.is_none());
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            let parts = split(text, separator.as_ref().and_then(Value::as_str), most, method == "rsplit");
            Value::from(parts.ok_or_else(|| wrong("split: the separator is empty"))?)
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let last = method == "rpartition";
            let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let (skipped, within) = within(text, start, end);
            let at = if method.starts_with('r') { within.rfind(what) } else { within.find(what) };
            match method {
                "count" => Value::from(within.matches(what).count()),
                "index" | "rindex" if at.is_none() => return Err(wrong("index: the substring is not found")),
                _ => Value::from(cased(at.map(|at| skipped + at))),
            }
        }
        "startswith" | "endswith" if args.len() > 1 => {
            let (what, start, end): (Value, Option<i64>, Option<i64>) = from_args(args)?;
            let (_, within) = within(text, start, end);
            let fits =
                |what: &str| if method == "endswith" { within.ends_with(what) } else { within.starts_with(what) };
            match what.as_str() {
                Some(what) => Value::from(fits(what)),
                None => Value::from(items(state, &what)?.iter().any(|what| what.as_str().is_some_and(fits))),
            }
        }
        "join" => {
            let (given,): (Value,) = from_args(args)?;
            if let Some(item) = items(state, &given)?.iter().find(|item| item.as_str().is_none()) {
                return Err(wrong(&format!("join: expected strings, found {}", item.kind())));
            }
            return Ok(None);
        }
        "removeprefix" => {
            let (what,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(what).unwrap_or(text))
        }
        "removesuffix" => {
            let (what,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(what).unwrap_or(text))
        }
        "zfill" | "center" | "ljust" | "rjust" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            Value::from(padded(state, text, method, width, fill)?)
        }
        "title" => from_args::<()>(args).map(|()| Value::from(title(text)))?,
        "istitle" => {
            from_args::<()>(args).map(|()| Value::from(title(text) == text && text.chars().any(char::is_alphabetic)))?
        }
        "expandtabs" => {
            let (size, named): (Option<usize>, Kwargs) = from_args(args)?;
            let size = if named.has("tabsize") { Some(named.get("tabsize")?) } else { size };
            named.assert_all_used()?;
            Value::from(tabs_expanded(state, text, size.unwrap_or(8))?)
        }
        "swapcase" => from_args::<()>(args).map(|()| Value::from(swapped(text)))?,
        "casefold" => from_args::<()>(args).map(|()| Value::from(text.to_lowercase().replace('ß', "ss")))?,
        "isdigit" => {
            from_args::<()>(args)?;
            let is_digit = |c: char| c.is_ascii_digit() || (c.is_numeric() && !"½¼¾⅓⅔".contains(c));
            Value::from(!text.is_empty() && text.chars().all(is_digit))
        }
        _ => return Ok(None),
    }))
}

fn list(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "index" => {
            let (what,): (Value,) = from_args(args)?;
            let at = items(state, value)?.iter().position(|item| *item == what);
            at.map(|at| Some(Value::from(at))).ok_or_else(|| wrong("index: the list has no such item"))
        }
        "copy" => from_args::<()>(args).map(|()| Some(value.clone())),
        _ => Ok(None),
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

/// `split` and, from the end, `rsplit`: at a separator, or at runs of white space. Nothing where the separator is empty.
fn split(text: &str, separator: Option<&str>, most: usize, from_end: bool) -> Option<Vec<String>> {
    let count = most.saturating_add(1);
    let owned = |parts: Vec<&str>| parts.into_iter().map(str::to_owned).collect();
    let Some(separator) = separator else { return Some(owned(split_whitespace(text, most, from_end))) };
    if separator.is_empty() {
        return None;
    }
    if !from_end {
        return Some(owned(text.splitn(count, separator).collect()));
    }
    let mut parts: Vec<&str> = text.rsplitn(count, separator).collect();
    parts.reverse();
    Some(owned(parts))
}

fn split_whitespace(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_end { rest.trim_end() } else { rest.trim_start() };
        if rest.is_empty() {
            break;
        }
        let cut = if parts.len() >= most {
            None
        } else if from_end {
            rest.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8())
        } else {
            rest.find(char::is_whitespace)
        };
        let (part, left) = match cut {
            None => (rest, ""),
            Some(at) if from_end => (&rest[at..], &rest[..at]),
            Some(at) => rest.split_at(at),
        };
        parts.push(part);
        rest = left;
    }
    if from_end {
        parts.reverse();
    }
    parts
}

/// The characters from `start` to before `end`, negative ones counted from the end, and the byte at which they begin.
fn within(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, &str) {
    let byte = |at: i64| {
        let at = if at < 0 { at.saturating_add(text.chars().count() as i64).max(0) } else { at };
        text.char_indices().nth(usize::try_from(at).unwrap_or(usize::MAX)).map_or(text.len(), |(byte, _)| byte)
    };
    let (start, end) = (start.map_or(0, byte), end.map_or(text.len(), byte));
    (start, text.get(start..end).unwrap_or_default())
}

fn padded(state: &State, text: &str, method: &str, width: usize, fill: Option<&str>) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    let fill = fill.unwrap_or(if method == "zfill" { "0" } else { " " });
    state.consume_fuel((missing.saturating_mul(fill.len()) / 64) as u64)?;
    let left = match method {
        "ljust" => 0,
        // The odd one goes to the left where the width is odd, as in CPython.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if method == "zfill" => text.split_at(text.len() - digits.len()),
        _ => ("", text),
    };
    Ok([sign, &fill.repeat(left), digits, &fill.repeat(missing - left)].concat())
}

/// Spaces in the place of tabs, up to the next column that the size divides.
fn tabs_expanded(state: &State, text: &str, size: usize) -> Result<String, Error> {
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for character in text.chars() {
        match character {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                state.consume_fuel((spaces / 64) as u64)?;
                expanded.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                expanded.push(character);
                column = 0;
            }
            _ => {
                expanded.push(character);
                column += 1;
            }
        }
    }
    Ok(expanded)
}

/// A capital after everything that is no letter.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut titled = String::with_capacity(text.len());
    for character in text.chars() {
        match inside {
            true => titled.extend(character.to_lowercase()),
            false => titled.extend(character.to_uppercase()),
        }
        inside = character.is_alphabetic();
    }
    titled
}

fn swapped(text: &str) -> String {
    let swap =
        |c: char| if c.is_uppercase() { c.to_lowercase().collect::<String>() } else { c.to_uppercase().collect() };
    text.chars().map(swap).collect()
}
