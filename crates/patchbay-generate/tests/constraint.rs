//! Whatever tokens a constraint allows, taken at random, make a text of its form.

use std::path::Path;
use std::time::{Duration, Instant};

use patchbay_checkpoint::Tokenizer;
use patchbay_generate::{Form, Sampler, Sampling, Vocabulary};
use patchbay_graph::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Logits of the model, a few more than it has tokens.
const SIZE: usize = 328;
const EOS: u32 = 1;

fn tokenizer() -> Tokenizer {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/llama-rope3/tokenizer.json");
    Tokenizer::from_file(Path::new(file)).expect("the golden has a tokenizer")
}

fn vocabulary(ends: &[u32]) -> Vocabulary {
    Vocabulary::new(&tokenizer(), SIZE, ends).expect("its tokens can be read")
}

/// A text of this form, of tokens taken at random; nothing where it has not come to its end.
fn text(vocabulary: &Vocabulary, constraint: &Value, seed: u64) -> Option<String> {
    let mut constraint = vocabulary.constraint(&Form::parse(constraint).expect("a form")).expect("a grammar");
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling, seed, 0, &[]);
    // what ends strings, lists and objects is likelier, so that texts come to an end
    let tokenizer = tokenizer();
    let logit = |id: u32| if b"\"]}".iter().any(|byte| tokenizer.token_bytes(id) == [*byte]) { 4.0 } else { 0.0 };
    let logits: Vec<f32> = (0..SIZE as u32).map(logit).collect();
    let mut ids = Vec::new();
    for _ in 0..2000 {
        let allowed = constraint.allowed().expect("it can be looked at");
        let id = sampler.take(&logits, &[], Some(&allowed)).expect("some token is allowed");
        ids.push(id);
        if constraint.take(id).expect("an allowed token") {
            return Some(tokenizer.decode(&ids, true).expect("text"));
        }
    }
    None
}

/// Schemas of everyday keywords.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "maxLength": 6})),
        Just(json!({"type": "string", "pattern": "^[a-c]{1,4}x$"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        Just(json!({"const": {"a": [1, "two"]}})),
        (-50i64..50, 0i64..50)
            .prop_map(|(low, more)| json!({"type": "integer", "minimum": low, "maximum": low + more})),
        proptest::collection::vec("[a-z\"é ]{1,5}", 1..4).prop_map(|texts| json!({"enum": texts})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = (inner.clone(), 0usize..3, 0usize..3);
        prop_oneof![
            list.prop_map(|(items, least, more)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            }),
            proptest::collection::vec((inner.clone(), any::<bool>()), 1..4).prop_map(|fields| {
                let name = |i: usize| format!("k{i}");
                let properties: serde_json::Map<_, _> =
                    fields.iter().enumerate().map(|(i, (schema, _))| (name(i), schema.clone())).collect();
                let required: Vec<String> =
                    fields.iter().enumerate().filter(|(_, (_, needed))| *needed).map(|(i, _)| name(i)).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }),
            proptest::collection::vec(inner, 1..3).prop_map(|any| json!({"anyOf": any})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_schema_is_true_of_what_is_written(schema in schema(), seed: u64) {
        for ends in [&[EOS][..], &[]] {
            if let Some(text) = text(&vocabulary(ends), &json!({"json_schema": schema}), seed) {
                let value = serde_json::from_str(&text);
                let value: Value = value.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
                prop_assert!(jsonschema::is_valid(&schema, &value), "{schema} is not true of {text}");
            }
        }
    }
}

#[test]
fn texts_come_to_an_end() {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"], "additionalProperties": false});
    let vocabulary = vocabulary(&[EOS]);
    let ended = (0..20).filter_map(|seed| text(&vocabulary, &json!({"json_schema": schema}), seed)).count();
    assert!(ended >= 15, "{ended} of 20");
    let ended = (0..20).filter_map(|seed| text(&vocabulary, &json!({"json": true}), seed));
    let ended: Vec<Value> = ended.map(|text| serde_json::from_str(&text).unwrap()).collect();
    assert!(!ended.is_empty() && ended.iter().all(Value::is_object), "{ended:?}");
}

#[test]
fn other_forms() {
    let vocabulary = vocabulary(&[EOS]);
    for seed in 0..10 {
        let chosen = text(&vocabulary, &json!({"choice": ["yes", "no, \"never\"", "nö"]}), seed).unwrap();
        assert!(["yes", "no, \"never\"", "nö"].contains(&&*chosen), "{chosen}");
        let matched = text(&vocabulary, &json!({"regex": "(ab|c){2} [0-9]"}), seed).unwrap();
        let (letters, digit) = matched.split_once(' ').unwrap();
        assert!(["abab", "abc", "cab", "cc"].contains(&letters) && digit.parse::<u8>().is_ok(), "{matched}");
        let lark = "start: item (\",\" item){2}\nitem: /[a-z]/ | \"<\" start \">\"";
        if let Some(text) = text(&vocabulary, &json!({"lark": lark}), seed) {
            assert_eq!(text.matches(',').count() % 2, 0, "{text}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_soon() {
    let vocabulary = vocabulary(&[EOS]);
    for (constraint, field) in [
        (json!({"json_schema": {"type": "nothing"}}), "json_schema"),
        (json!({"json_schema": {"$ref": "https://example.com/schema.json"}}), "json_schema"),
        (json!({"json_schema": {"$ref": "#/$defs/missing"}}), "json_schema"),
        (json!({"json_schema": {"allOf": [{"type": "string"}, {"type": "integer"}]}}), "json_schema"),
        (json!({"json_schema": {"type": "object", "unevaluatedItems": {"contains": 3}}}), "json_schema"),
        (json!({"regex": "(unclosed"}), "regex"),
        (json!({"lark": "start: missing"}), "lark"),
        (json!({"lark": "start: %import everything"}), "lark"),
    ] {
        let began = Instant::now();
        let found = vocabulary.constraint(&Form::parse(&constraint).unwrap());
        let problem = found.err().unwrap_or_else(|| panic!("{constraint} was taken"));
        assert_eq!(problem.pointer, format!("/constraint/{field}"), "{problem:?}");
        assert_eq!(problem.code, Code::BadArgument);
        assert!(began.elapsed() < Duration::from_secs(10), "{constraint} took {:?}", began.elapsed());
    }
    // large, and well made
    for constraint in [
        json!({"json_schema": {"type": "string", "pattern": "(((a{1,1000}){1,1000}){1,1000}){1,1000}"}}),
        json!({"regex": "(a{1,9999}){1,9999}"}),
        json!({"regex": "((a|b)*a(a|b){24}c)*"}),
    ] {
        let began = Instant::now();
        let mut constraint = vocabulary.constraint(&Form::parse(&constraint).unwrap()).unwrap();
        let a = tokenizer().id("a").unwrap();
        let steps = (0..50).try_for_each(|_| constraint.allowed().and_then(|_| constraint.take(a)).map(drop));
        assert!(steps.is_ok() || steps.is_err_and(|problem| problem.code == Code::TooLarge));
        assert!(began.elapsed() < Duration::from_secs(5), "{constraint:?} took {:?}", began.elapsed());
    }
    let wide: Vec<Value> = (0..3000).map(|i| json!({"const": format!("{i}{}", "x".repeat(40))})).collect();
    assert!(vocabulary.constraint(&Form::parse(&json!({"json_schema": {"anyOf": wide}})).unwrap()).is_ok());
}
