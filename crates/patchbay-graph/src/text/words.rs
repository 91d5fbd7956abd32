//! The words of the text form: which are taken, which operations are written as signs, and what a field holds.

use crate::ops::{Kind, OpSpec, Param};
use crate::path::is_site_word;

/// How deep brackets, signs and the nodes that they make may stand in each other. A node written in place is two deep, as in
/// the JSON: the object and the list of its arguments.
pub(super) const MAX_NESTED: usize = 160;

/// An operation written as a sign between two values.
#[derive(Debug)]
pub(super) struct Sign {
    /// The sign.
    pub(super) sign: &'static str,
    /// The operation's name.
    pub(super) op: &'static str,
    /// How tightly it binds.
    pub(super) power: u8,
}

const fn sign(sign: &'static str, op: &'static str, power: u8) -> Sign {
    Sign { sign, op, power }
}

/// What binds tighter than every sign: a name, a call, what stands in brackets.
pub(super) const ATOM: u8 = 6;
/// `**`, which groups to the right.
pub(super) const POWER: u8 = 5;
/// Comparisons, which do not chain.
pub(super) const COMPARISON: u8 = 1;

/// The sign before one value.
pub(super) const MINUS: Sign = sign("-", "neg", 4);

/// The signs between two values; a sign stands before those that it begins with.
pub(super) const SIGNS: &[Sign] = &[
    sign("**", "pow", POWER),
    sign("*", "mul", 3),
    sign("/", "div", 3),
    sign("+", "add", 2),
    sign("-", "sub", 2),
    sign("==", "eq", COMPARISON),
    sign("!=", "ne", COMPARISON),
    sign("<=", "le", COMPARISON),
    sign(">=", "ge", COMPARISON),
    sign("<", "lt", COMPARISON),
    sign(">", "gt", COMPARISON),
];

impl Sign {
    /// The sign of an operation.
    pub(super) fn of(op: &str) -> Option<&'static Self> {
        SIGNS.iter().find(|sign| sign.op == op)
    }

    /// Whether `site sign= value` is short for `site = site sign value`.
    pub(super) fn assigns(&self) -> bool {
        self.power > COMPARISON
    }

    /// The weakest that may stand on the left and on the right without brackets.
    pub(super) fn sides(&self) -> (u8, u8) {
        match self.power {
            POWER => (ATOM, MINUS.power),
            COMPARISON => (COMPARISON + 1, COMPARISON + 1),
            power => (power, power + 1),
        }
    }
}

/// What a constant's word stands for, as JSON.
pub(super) fn constant(word: &str) -> Option<serde_json::Value> {
    match word {
        "true" | "True" => Some(true.into()),
        "false" | "False" => Some(false.into()),
        "null" | "None" => Some(serde_json::Value::Null),
        "NaN" | "Infinity" => Some(word.into()),
        _ => None,
    }
}

/// Whether a word cannot be the name of a value, unless it is written with `$`.
pub(super) fn is_taken(word: &str) -> bool {
    matches!(word, "save" | "as" | "to") || constant(word).is_some() || is_site_word(word)
}

/// Fields that the values in a call's brackets fill, in order, where they do not fill `args`.
pub(super) fn positional(op: &str) -> Option<&'static [&'static str]> {
    match op {
        "save" | "top_tokens" => Some(&["value"]),
        "set" => Some(&["target", "value"]),
        "grad" => Some(&["of", "wrt"]),
        _ => None,
    }
}

/// Operations that have no value, written `op field=value field=value`.
pub(super) const COMMANDS: [&str; 4] = ["save", "set", "steer", "skip"];

/// What a string in a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A value: a site, `$id` or `@name`.
    Operand,
    /// A word of its own; the name of a value does not stand for the value here.
    Word,
    /// Not known here.
    Unknown,
}

const OPERANDS: [&str; 8] = ["args", "value", "vector", "factor", "with", "target", "of", "wrt"];
const WORDS: [&str; 9] = ["id", "as", "to", "input", "site", "module", "steps", "out", "dtype"];

/// What a string is in a field of an operation.
pub(super) fn role(op: &str, field: &str) -> Role {
    match OpSpec::find(op).and_then(|spec| spec.param(field)) {
        Some(param) => param_role(param),
        None if OPERANDS.contains(&field) => Role::Operand,
        None if WORDS.contains(&field) => Role::Word,
        None => Role::Unknown,
    }
}

/// What a string is among the values in a call's brackets.
pub(super) fn role_at(op: &str, place: usize) -> Role {
    OpSpec::find(op).and_then(|spec| spec.params.get(place)).map_or(Role::Operand, param_role)
}

fn param_role(param: &Param) -> Role {
    match param.kind {
        Kind::Word(_) | Kind::Type | Kind::Text | Kind::Order => Role::Word,
        _ => Role::Operand,
    }
}
