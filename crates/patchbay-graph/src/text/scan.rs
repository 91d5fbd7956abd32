//! The smallest pieces: space, words, names, numbers, quoted strings.

use serde_json::{Number, Value};
use winnow::Parser;
use winnow::combinator::{alt, delimited, not, opt, peek, preceded, repeat, terminated};
use winnow::error::{ErrMode, ModalResult, ParserError};
use winnow::stream::{LocatingSlice, Location, Stateful, Stream};
use winnow::token::{one_of, take_till, take_while};

use super::words::MAX_NESTED;
use crate::problem::{Code, Problem};

/// The text that is left, and how many brackets are open: within brackets a line's end is space.
pub(super) type Input<'a> = Stateful<LocatingSlice<&'a str>, usize>;

/// What a parser returns.
pub(super) type Parsed<T> = ModalResult<T, Fault>;

/// What is wrong, and where.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Place in the text, in bytes.
    pub(super) at: usize,
    /// What is wrong, if more is known than that nothing fits.
    pub(super) problem: Option<Box<Problem>>,
}

impl ParserError<Input<'_>> for Fault {
    type Inner = Self;

    fn from_input(input: &Input<'_>) -> Self {
        Self { at: input.current_token_start(), problem: None }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// A problem at a place, which ends the parse.
pub(super) fn fault(at: usize, problem: Problem) -> ErrMode<Fault> {
    ErrMode::Cut(Fault { at, problem: Some(Box::new(problem)) })
}

/// Something else was expected here.
pub(super) fn expected(input: &Input<'_>, what: &str) -> Problem {
    let found = match ahead(input).chars().next() {
        None => "the end of the text".to_owned(),
        Some('\n' | '\r') => "the end of the line".to_owned(),
        Some(c) if in_word(c) => {
            let end = ahead(input).find(|c| !in_word(c)).unwrap_or(ahead(input).len());
            format!("`{}`", ahead(input)[..end].chars().take(20).collect::<String>())
        }
        Some(c) => format!("`{}`", c.escape_debug()),
    };
    Problem::new(Code::Malformed, format!("expected {what}, found {found}"))
}

/// What is left of the text.
pub(super) fn ahead<'a>(input: &Input<'a>) -> &'a str {
    input.input.as_ref()
}

/// The place in the text.
pub(super) fn here(input: &Input<'_>) -> usize {
    input.current_token_start()
}

/// Whether the text goes on with this.
pub(super) fn follows(input: &Input<'_>, what: &str) -> bool {
    ahead(input).starts_with(what)
}

/// Takes this sign, if it is there.
pub(super) fn accept(input: &mut Input<'_>, sign: &str) -> bool {
    let found = follows(input, sign);
    if found {
        input.next_slice(sign.len());
    }
    found
}

/// Runs a parser within brackets, the opening one of which has been taken at `at`.
pub(super) fn within<'a, T>(
    input: &mut Input<'a>,
    at: usize,
    close: &str,
    parser: fn(&mut Input<'a>) -> Parsed<T>,
) -> Parsed<T> {
    if input.state >= MAX_NESTED {
        return Err(too_deep(at));
    }
    input.state += 1;
    space(input)?;
    let found = parser(input)?;
    space(input)?;
    if !follows(input, close) {
        let (at, problem) = match ahead(input).is_empty() {
            true => (at, Problem::new(Code::Malformed, format!("no `{close}` closes this bracket"))),
            false => (here(input), expected(input, &format!("`,` or `{close}`"))),
        };
        return Err(fault(at, problem.hint("within brackets a line goes on until they are closed")));
    }
    input.state -= 1;
    input.next_slice(close.len());
    Ok(found)
}

/// More brackets or signs than anyone reads.
pub(super) fn too_deep(at: usize) -> ErrMode<Fault> {
    let problem =
        Problem::new(Code::TooLarge, format!("brackets and signs stand in each other more than {MAX_NESTED} deep"));
    fault(at, problem.hint("give inner values a name on a line of their own: `x = …`"))
}

/// Spaces and comments; within brackets, line ends too.
pub(super) fn space(input: &mut Input<'_>) -> Parsed<()> {
    let blank = if input.state > 0 { "\n \t\r" } else { " \t\r" };
    loop {
        take_while(0.., |c| blank.contains(c)).void().parse_next(input)?;
        if opt(('#', take_till(0.., '\n'))).parse_next(input)?.is_none() {
            return Ok(());
        }
    }
}

/// Whether a character may stand in a word.
pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `{layer}`, which a sweep replaces.
fn placeholder<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    delimited('{', take_while(1.., in_word), '}').take().parse_next(input)
}

/// Letters, digits, `_` and placeholders; the first may be a digit.
fn run<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    repeat::<_, _, (), _, _>(1.., alt((take_while(1.., in_word), placeholder))).take().parse_next(input)
}

/// A word, which begins with no digit.
pub(super) fn word<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    preceded(not(one_of(|c: char| c.is_numeric())), run).parse_next(input)
}

/// The name of a result, which may have dots and hyphens in it.
pub(super) fn label<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    repeat::<_, _, (), _, _>(1.., alt((run, take_while(1.., ['.', '-'])))).take().parse_next(input)
}

/// A name as the JSON has it: a site, `$id` or `@name`, and an index behind it.
pub(super) fn name<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    let input_name = terminated(word, ('/', peek(word)));
    let stored = (run, repeat::<_, _, (), _, _>(0.., ('-', run)));
    let head = alt((('$', word).void(), ('@', stored).void(), (opt(input_name), word).void()));
    (head, repeat::<_, _, (), _, _>(0.., alt((step, bracketed)))).take().parse_next(input)
}

/// `.output`, `.5`, `.-1`, `.*`, or the dot of `.[3, 9]`.
fn step(input: &mut Input<'_>) -> Parsed<()> {
    let negative = ('-', take_while(1.., '0'..='9'));
    ('.', alt((run.void(), negative.void(), '*'.void(), peek('[').void()))).void().parse_next(input)
}

/// `[…]` behind a name, taken as it stands.
fn bracketed(input: &mut Input<'_>) -> Parsed<()> {
    let at = here(input);
    peek('[').parse_next(input)?;
    let mut depth = 0_usize;
    let mut quote = None;
    let mut chars = ahead(input).char_indices();
    while let Some((offset, c)) = chars.next() {
        match (quote, c) {
            (Some((_, open)), '\n') => return Err(no_quote(open)),
            (Some(_), '\\') => {
                chars.next();
            }
            (Some((mark, _)), c) if c == mark => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some((c, at + offset)),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => {
                input.next_slice(offset + 1);
                return Ok(());
            }
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    Err(quote.map_or_else(
        || fault(at, Problem::new(Code::BadIndex, "no `]` closes this index").hint("an index ends in `]`: `[:, -1]`")),
        |(_, open)| no_quote(open),
    ))
}

fn no_quote(at: usize) -> ErrMode<Fault> {
    let problem = Problem::new(Code::Malformed, "no quote closes this text on its line");
    fault(at, problem.hint("a line's end in a text is written \\n"))
}

/// A number as JSON writes it, without a sign.
pub(super) fn number(input: &mut Input<'_>) -> Parsed<Number> {
    let at = here(input);
    let digits = || take_while(1.., '0'..='9');
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digits());
    let text = (digits(), opt(('.', digits())), opt(exponent)).take().parse_next(input)?;
    let wrong = |detail: &str| {
        fault(at, Problem::new(Code::Malformed, detail).hint("numbers are written as in JSON: 5, 0.5, 1e-3"))
    };
    if ahead(input).starts_with(|c| in_word(c) || c == '.') {
        return Err(wrong("this is neither a number nor a name"));
    }
    serde_json::from_str(text).map_err(|_| match text.starts_with('0') {
        true => wrong("a number begins with no 0 that is not needed"),
        false => wrong("this number is too large"),
    })
}

/// A text in double or single quotes, with the escapes of JSON.
pub(super) fn quoted(input: &mut Input<'_>) -> Parsed<String> {
    let at = here(input);
    let mark = one_of(['"', '\'']).parse_next(input)?;
    let mut out = String::new();
    loop {
        out.push_str(take_till(0.., |c| c == mark || c == '\\' || c == '\n').parse_next(input)?);
        if accept(input, "\\") {
            out.push(escape(input)?);
        } else if ahead(input).starts_with(mark) {
            input.next_slice(1);
            return Ok(out);
        } else {
            return Err(no_quote(at));
        }
    }
}

/// What stands behind a backslash.
fn escape(input: &mut Input<'_>) -> Parsed<char> {
    let at = here(input) - 1;
    let wrong = || {
        let problem = Problem::new(Code::Malformed, "this escape means nothing");
        fault(at, problem.hint(r#"the escapes are \n \t \r \b \f \\ \/ \" \' and \u with four hexadecimal digits"#))
    };
    match input.next_token() {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some('b') => Ok('\u{8}'),
        Some('f') => Ok('\u{c}'),
        Some(c @ ('\\' | '/' | '"' | '\'')) => Ok(c),
        Some('u') => unicode(input)?.ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// The digits behind `\u`, and a second such escape where the first is half of a pair (UTF-16).
fn unicode(input: &mut Input<'_>) -> Parsed<Option<char>> {
    let unit = |input: &mut Input<'_>| -> Parsed<Option<u16>> {
        let digits = opt(take_while(4, |c: char| c.is_ascii_hexdigit())).parse_next(input)?;
        Ok(digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()))
    };
    let Some(first) = unit(input)? else { return Ok(None) };
    let second = match (0xd800..0xdc00).contains(&first) && accept(input, "\\u") {
        true => unit(input)?,
        false => None,
    };
    let mut units = char::decode_utf16([first].into_iter().chain(second));
    Ok(match (units.next(), units.next()) {
        (Some(Ok(c)), None) => Some(c),
        _ => None,
    })
}

/// A string that is one whole name, as the text form writes names.
pub(super) fn is_name(text: &str) -> bool {
    !text.contains(['\n', '\r']) && whole(name, text)
}

/// A string that is one whole word.
pub(super) fn is_word(text: &str) -> bool {
    whole(word, text)
}

/// A string that can stand behind `as`.
pub(super) fn is_label(text: &str) -> bool {
    whole(label, text)
}

fn whole<'a>(parser: fn(&mut Input<'a>) -> Parsed<&'a str>, text: &'a str) -> bool {
    let mut input = Input { input: LocatingSlice::new(text), state: 0 };
    parser(&mut input).is_ok() && ahead(&input).is_empty()
}

/// A string as the text form quotes it.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
