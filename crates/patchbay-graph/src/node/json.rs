//! Writes nodes as they would be read again.

use serde_json::{Map, Value, json};

use super::{Action, Node};
use crate::index::{Coord, Item};
use crate::literal::number_to_json;
use crate::operand::Operand;
use crate::ops::{Attr, Kind};

impl Node {
    /// The JSON that parses to this node.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("op".into(), json!(self.op()));
        if let Some(id) = &self.id {
            object.insert("id".into(), json!(id));
        }
        if let Some(steps) = &self.steps {
            object.insert("steps".into(), steps.to_json());
        }
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(name.into(), value);
            }
        };
        match &self.action {
            Action::Save { value, name, to } => {
                put("value", Some(value.to_json()));
                put("as", name.as_ref().map(|name| json!(name)));
                put("to", to.as_ref().map(|to| json!(format!("@{to}"))));
            }
            Action::Set { target, value } => {
                put("target", Some(json!(target.to_string())));
                put("value", Some(value.to_json()));
            }
            Action::Steer(steer) => {
                put("layers", Some(json!(steer.layers)));
                put("vector", Some(steer.vector.to_json()));
                put("factor", steer.factor.as_ref().map(Operand::to_json));
                put("tokens", steer.tokens.as_ref().map(places_to_json));
                put("rows", steer.rows.as_ref().map(places_to_json));
                put("input", steer.input.as_ref().map(|input| json!(input)));
                put("site", steer.site.as_ref().map(|site| json!(site)));
            }
            Action::Skip { layers: (first, last), with, input } => {
                put("layers", Some(json!([first, last])));
                put("with", with.as_ref().map(Operand::to_json));
                put("input", input.as_ref().map(|input| json!(input)));
            }
            Action::Project { value, output_transform } => {
                put("args", Some(json!([value.to_json()])));
                put("output_transform", output_transform.then(|| json!(true)));
            }
            Action::TopTokens { value, k, name } => {
                put("value", Some(value.to_json()));
                put("k", Some(json!(k)));
                put("as", Some(json!(name)));
            }
            Action::Call { module, value } => {
                put("module", Some(json!(module)));
                put("args", Some(json!([value.to_json()])));
            }
            Action::Grad { of, wrt, listed } => {
                let sites: Vec<Value> = wrt.iter().map(|site| json!(site.to_string())).collect();
                put("of", Some(of.to_json()));
                put("wrt", if *listed { Some(json!(sites)) } else { sites.into_iter().next() });
            }
            Action::Op { spec, args, attrs, out } => {
                for param in spec.params {
                    let mut values = args.iter().filter(|(name, _)| *name == param.name).map(|(_, arg)| arg.to_json());
                    match param.kind {
                        Kind::Tensors => put(param.name, Some(values.collect())),
                        _ => put(param.name, values.next()),
                    }
                }
                attrs.iter().for_each(|(name, attr)| put(name, Some(attr_to_json(attr))));
                put("out", out.as_ref().map(|out| out.parse().map_or_else(|_| json!(out), |out: u64| json!(out))));
            }
        }
        Value::Object(object)
    }
}

fn attr_to_json(attr: &Attr) -> Value {
    match attr {
        Attr::Axes(axes) if axes.len() == 1 => json!(axes[0]),
        Attr::Axes(axes) | Attr::Ints(axes) => json!(axes),
        Attr::Int(int) => json!(int),
        Attr::Number(number) => number_to_json(*number),
        Attr::Flag(flag) => json!(flag),
        Attr::Word(word) | Attr::Text(word) => json!(word),
        Attr::Type(dtype) => json!(dtype),
    }
}

fn places_to_json(item: &Item) -> Value {
    match item {
        Item::Each(coords) => {
            let coord = |coord: &Coord| match coord {
                Coord::Int(place) => json!(place),
                Coord::Text(text) => json!(text),
                Coord::Found(places) => json!(places),
            };
            Value::Array(coords.iter().map(coord).collect())
        }
        item => json!(item.to_string()),
    }
}
