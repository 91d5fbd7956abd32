//! Breaks one thing of a graph that is right.

use patchbay_graph::Code;
use serde_json::{Value, json};

use crate::common::Random;

/// A graph with something wrong.
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) body: Value,
    /// Where it is wrong.
    pub(crate) node: usize,
    /// What it may be called.
    pub(crate) codes: &'static [Code],
    /// Whether the answer has to say how to mend it.
    pub(crate) hinted: bool,
}

/// How many ways there are to break a graph.
pub(crate) const KINDS: usize = 17;

fn is_site(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        ["layers.", "logits", "embed_tokens.", "ln_final.", "lm_head."]
            .iter()
            .any(|name| text.rsplit('/').next().is_some_and(|site| site.starts_with(name)))
    })
}

/// Strings that name sites, as JSON pointers from the node.
fn sites(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| sites(item, &format!("{at}/{i}"), found)),
        Value::Object(fields) => {
            fields
                .iter()
                .filter(|(key, _)| *key != "module")
                .for_each(|(key, item)| sites(item, &format!("{at}/{key}"), found));
        }
        value if is_site(value) => found.push(at.to_owned()),
        _ => {}
    }
}

/// One random thing broken, where the node chosen has it.
pub(crate) fn broken(body: &Value, random: &mut Random) -> Option<Broken> {
    let mut body = body.clone();
    let count = body["graph"].as_array()?.len();
    let number = random.below(count);
    let many = body.get("inputs").is_some();
    let last_result = body["graph"].as_array()?.iter().rposition(|node| node.get("as").is_some());
    let taken: Vec<Value> = body["graph"].as_array()?.iter().filter_map(|node| node.get("as").cloned()).collect();
    let node = &mut body["graph"][number];
    let op = node["op"].as_str()?.to_owned();
    let mut places = Vec::new();
    sites(node, "", &mut places);
    let place = if places.is_empty() { None } else { Some(random.of(&places).clone()) };
    let site = |node: &Value| place.as_ref().and_then(|place| node.pointer(place)?.as_str().map(String::from));
    let plain = |text: &str| text.split('[').next().unwrap_or_default().to_owned();
    let prefix = |text: &str| text.split_once('/').map_or(String::new(), |(input, _)| format!("{input}/"));
    let value_field = ["value", "vector", "of", "with"].into_iter().find(|field| node.get(field).is_some());
    let (what, codes, hinted): (&'static str, &'static [Code], bool) = match random.below(KINDS) {
        0 => {
            node["op"] = json!(format!("{op}x"));
            ("unknown op", &[Code::UnknownOp], true)
        }
        1 => {
            node["valu"] = json!(1);
            ("unknown field", &[Code::UnknownField], false)
        }
        2 => {
            let text = site(node)?;
            *node.pointer_mut(&place?)? = json!(format!("{}layers.0.outptu", prefix(&text)));
            ("unknown site", &[Code::UnknownSite], true)
        }
        3 => {
            let text = site(node)?;
            *node.pointer_mut(&place?)? = json!(format!("{}layers.99.output", prefix(&text)));
            ("layer out of range", &[Code::UnknownSite], true)
        }
        4 => {
            let text = site(node)?;
            *node.pointer_mut(&place?)? = json!(format!("{}[:, ", plain(&text)));
            ("index without an end", &[Code::BadIndex, Code::UnknownSite], true)
        }
        5 => {
            let text = site(node).filter(|text| !text.contains("*") && !text.contains(".["))?;
            *node.pointer_mut(&place?)? = json!(format!("{}[99]", plain(&text)));
            ("row out of range", &[Code::IndexOutOfRange], true)
        }
        6 => {
            let text = site(node).filter(|text| !text.contains("*") && !text.contains(".["))?;
            *node.pointer_mut(&place?)? = json!(format!("{}[0, 0, 0, 0, 0, 0]", plain(&text)));
            ("index of too many axes", &[Code::BadIndex], true)
        }
        7 => {
            let text = site(node)?;
            let site = text.rsplit('/').next()?;
            *node.pointer_mut(&place?)? = json!(format!("nobody/{site}"));
            ("unknown input", &[Code::UnknownInput], true)
        }
        8 => {
            node[value_field?] = json!("$nobody");
            ("dangling id", &[Code::UnknownNode], false)
        }
        9 => {
            node[value_field?] = json!("@nobody");
            ("unknown tensor", &[Code::UnknownTensor], false)
        }
        10 => {
            node[value_field?] = json!({"dtype": "float23", "data": [1]});
            ("unknown dtype", &[Code::DtypeMismatch], false)
        }
        11 => {
            node[value_field?] = json!({"op": "matmul", "args": [[[1, 2]], [[1.5], [2.5]]]});
            ("two dtypes", &[Code::DtypeMismatch], false)
        }
        12 if op == "set" => {
            node["value"] = json!({"op": "zeros", "args": [7, 7, 7, 7, 7]});
            ("wrong shape", &[Code::ShapeMismatch], true)
        }
        13 => {
            let field = if op == "save" { "as" } else { "op" };
            node[field] = json!({"a": 1});
            ("wrong type", &[Code::BadArgument, Code::Malformed], false)
        }
        14 => {
            let field = ["value", "target", "layers", "args", "of", "wrt"]
                .into_iter()
                .find(|field| node.get(field).is_some())?;
            node.as_object_mut()?.remove(field);
            ("missing field", &[Code::MissingField], false)
        }
        15 if op == "set" => {
            // what was there is still used
            let target = node["target"].as_str()?.to_owned();
            if !target.contains("layers.") && !target.contains("embed") {
                return None;
            }
            let late = format!("{}logits[0, -1, 0]", if many { prefix(&target) } else { String::new() });
            node["value"] = json!({"op": "add", "args": [node["value"], late]});
            ("backward flow", &[Code::BackwardFlow], true)
        }
        16 if node.get("as").is_some() && Some(number) == last_result && taken.len() > 1 => {
            node["as"] = taken[0].clone();
            ("name taken twice", &[Code::DuplicateResult], true)
        }
        _ => return None,
    };
    Some(Broken { what, body, node: number, codes, hinted })
}
