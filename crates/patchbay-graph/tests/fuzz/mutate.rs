//! Changes requests and texts at random, by their structure.

use serde_json::{Map, Value, json};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Pieces of the language.
const PIECES: [&str; 62] = [
    "layers",
    "logits",
    "output",
    ".",
    "*",
    "[",
    "]",
    "[:, -1]",
    "[0]",
    "[...]",
    "[None]",
    "[::-1]",
    "[1:2:3]",
    ",",
    ":",
    "-",
    "-1",
    "0",
    "1",
    "9",
    "99999999999",
    "'",
    "\"",
    "\\",
    "' capital'",
    "clean/",
    "corrupt/",
    "$",
    "@",
    "@joy",
    "@pair.a",
    "self_attn.probs",
    "self_attn.q",
    "mlp.neurons",
    "embed_tokens.output",
    "next_token_probs",
    "weights.W_U",
    "weights.layers.*.W_O",
    "{",
    "}",
    "{layer}",
    "NaN",
    "Infinity",
    "é",
    "\u{301}",
    "\0",
    "\n",
    "#",
    " ",
    "(",
    ")",
    " = ",
    " += ",
    " as ",
    " to ",
    "save ",
    "skip ",
    "steer ",
    "**",
    "/",
    "softmax(",
    "dim=",
];

const OPS: [&str; 30] = [
    "save",
    "set",
    "steer",
    "skip",
    "call",
    "project_on_vocab",
    "grad",
    "top_tokens",
    "add",
    "sum",
    "norm",
    "topk",
    "split",
    "einsum",
    "matmul",
    "cat",
    "stack",
    "gather",
    "scatter_add",
    "where",
    "expand",
    "repeat",
    "reshape",
    "permute",
    "one_hot",
    "arange",
    "full",
    "randn",
    "cast",
    "cross_entropy",
];

const KEYS: [&str; 24] = [
    "op", "id", "value", "as", "to", "target", "args", "layers", "vector", "factor", "tokens", "rows", "input", "site",
    "with", "module", "of", "wrt", "k", "dim", "keepdim", "out", "dtype", "inputs",
];

/// Numbers and other values that programs forget about.
fn odd(random: &mut Random) -> Value {
    match random.below(16) {
        0 => json!(i64::MIN),
        1 => json!(i64::MAX),
        2 => json!(u64::MAX),
        3 => json!(1e308),
        4 => json!(-0.0),
        5 => json!(null),
        6 => json!(true),
        7 => json!([]),
        8 => json!({}),
        9 => json!(""),
        10 => json!(1u64 << (random.below(63))),
        11 => json!({"op": *random.of(&OPS), "args": [json!(*random.of(&PIECES)), 1]}),
        12 => json!({"dtype": "f16", "shape": [2, 1], "data": [1, "NaN"]}),
        13 => json!([[1, 2], [3, 4.5]]),
        14 => json!(*random.of(&OPS)),
        _ => json!(random.below(7) as i64 - 3),
    }
}

/// A place of a value, as the way from its root.
fn places<'a>(value: &'a Value, at: &mut Vec<Step<'a>>, found: &mut Vec<Vec<Step<'a>>>) {
    found.push(at.clone());
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                at.push(Step::Item(i));
                places(item, at, found);
                at.pop();
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                at.push(Step::Field(key));
                places(item, at, found);
                at.pop();
            }
        }
        _ => {}
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Item(usize),
    Field(&'a str),
}

fn random_place<'a>(value: &'a Value, random: &mut Random) -> Vec<Step<'a>> {
    let mut found = Vec::new();
    places(value, &mut Vec::new(), &mut found);
    // most mistakes are in the graph, which stands behind the inputs
    let place = found.len() - 1 - random.below(found.len());
    found.swap_remove(place)
}

fn at<'a>(mut value: &'a mut Value, place: &[Step<'_>]) -> &'a mut Value {
    for step in place {
        value = match step {
            Step::Item(i) => &mut value[*i],
            Step::Field(key) => &mut value[*key],
        };
    }
    value
}

/// One change of a body; some of it comes from `other`.
pub(crate) fn change(body: &Value, other: &Value, random: &mut Random) -> Value {
    let mut changed = body.clone();
    let place = random_place(body, random);
    let here = at(&mut changed, &place);
    match random.below(8) {
        0 => *here = odd(random),
        1 | 2 => {
            let from = random_place(other, random);
            *here = at(&mut other.clone(), &from).clone();
        }
        3 => {
            let from = random_place(body, random);
            *here = at(&mut body.clone(), &from).clone();
        }
        4 => {
            let inner = here.take();
            *here = json!({"op": *random.of(&OPS), "args": [inner]});
        }
        5 => *here = json!(spliced(here.as_str().unwrap_or("layers.0.output"), random)),
        _ => shape(here, random),
    }
    changed
}

/// Changes what a list or an object is made of, or a number.
fn shape(here: &mut Value, random: &mut Random) {
    match here {
        Value::Array(items) if !items.is_empty() => {
            let i = random.below(items.len());
            match random.below(4) {
                0 => drop(items.remove(i)),
                1 => items.insert(i, items[i].clone()),
                2 => {
                    let j = random.below(items.len());
                    items.swap(i, j);
                }
                _ => items.push(odd(random)),
            }
        }
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            match (keys.is_empty(), random.below(3)) {
                (false, 0) => drop(fields.remove(random.of(&keys))),
                (false, 1) => rename(fields, random.of(&keys).as_str(), random.of::<&str>(&KEYS)),
                _ => drop(fields.insert((*random.of(&KEYS)).into(), odd(random))),
            }
        }
        Value::Number(number) => {
            let by = random.below(5) as f64 - 2.0;
            let changed = number.as_f64().unwrap_or(0.0) + by;
            *here = if random.below(2) == 0 { json!(changed) } else { json!(changed as i64) };
        }
        Value::String(text) => *text = spliced(text, random),
        other => *other = odd(random),
    }
}

fn rename(fields: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        fields.insert(to.into(), value);
    }
}

/// A text with one piece more, less, or elsewhere.
pub(crate) fn spliced(text: &str, random: &mut Random) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (a, b) = (random.below(chars.len() + 1), random.below(chars.len() + 1));
    let (start, mut end) = (a.min(b), a.max(b));
    let piece: String = match random.below(4) {
        0 => {
            end = (start + 1).min(chars.len());
            String::new()
        }
        1 => {
            end = start;
            (*random.of(&PIECES)).into()
        }
        2 => {
            let piece = chars[start..end.min(start + 40)].iter().collect();
            end = start;
            piece
        }
        _ => {
            end = end.min(start + 12);
            (*random.of(&PIECES)).into()
        }
    };
    let head: String = chars[..start].iter().collect();
    let tail: String = chars[end..].iter().collect();
    head + &piece + &tail
}
