//! Chat templates, rendered as transformers renders them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests stop the test, as tests do")]

mod common;

use common::{fixture, fixture_json, open_path};
use cpu_time::ThreadTime;
use patchbay_checkpoint::{ChatOptions, Tokenizer};
use serde_json::{Map, Value, json};

/// A tokenizer with this chat template and no tokens but special ones.
fn tokenizer(template: &str, special: &Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("config.json", json!({"model_type": "llama"}).to_string());
    let vocab = json!({"<s>": 0, "</s>": 1, "<unk>": 2});
    let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"});
    write("tokenizer.json", json!({"version": "1.0", "added_tokens": [], "model": model}).to_string());
    write("tokenizer_config.json", special.to_string());
    write("chat_template.jinja", template.to_owned());
    std::fs::copy(fixture("tiny-llama.safetensors"), folder.path().join("model.safetensors")).unwrap();
    open_path(folder.path()).unwrap().tokenizer.unwrap()
}

/// Options as transformers' `apply_chat_template` takes them.
fn options(from: &Value) -> ChatOptions {
    let mut extra: Map<String, Value> = from.as_object().unwrap().clone();
    ChatOptions {
        add_generation_prompt: extra.remove("add_generation_prompt").is_some_and(|value| value == true),
        continue_final_message: extra.remove("continue_final_message").is_some_and(|value| value == true),
        tools: extra.remove("tools"),
        documents: extra.remove("documents"),
        extra,
    }
}

/// Holds what is rendered against what was recorded, and says all that differs.
fn check(mut cases: impl Iterator<Item = (String, Result<String, String>, Option<String>)>) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (what, found, expected) in cases.by_ref() {
        count += 1;
        match (found, expected) {
            (Ok(found), Some(expected)) if found == expected => {}
            (Err(_), None) => {}
            (found, expected) => wrong.push(format!("{what}\n  found    {found:?}\n  expected {expected:?}")),
        }
    }
    wrong.iter_mut().for_each(|text| *text = text.chars().take(2000).collect());
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{} or more of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn whole_templates_render_as_in_transformers() {
    let recorded = fixture_json("chats.json");
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.iter().filter(|case| case["text"].is_string()).count() > 500);
    check(cases.iter().map(|case| {
        let name = case["template"].as_str().unwrap();
        let template = std::fs::read_to_string(fixture(&format!("chats/{name}.jinja"))).unwrap();
        let tokenizer = tokenizer(&template, &recorded["special_tokens"]);
        let messages = &recorded["conversations"][case["conversation"].as_str().unwrap()];
        let found = tokenizer.apply_chat_template(messages, &options(&case["options"]));
        let what = format!("{name}, {}, {}", case["conversation"], case["options"]);
        (what, found.map_err(|error| error.to_string()), case["text"].as_str().map(str::to_owned))
    }));
}

#[test]
fn jinja_renders_as_in_python() {
    let recorded = fixture_json("jinja.json");
    let options = options(&recorded["context"]);
    let special = json!({});
    check(recorded["cases"].as_array().unwrap().iter().map(|case| {
        let template = case["template"].as_str().unwrap();
        let found = tokenizer(template, &special).apply_chat_template(&recorded["messages"], &options);
        let found = found.map_err(|error| error.to_string());
        (template.to_owned(), found, case["text"].as_str().map(str::to_owned))
    }));
}

fn refused(template: &str) -> String {
    let messages = json!([{"role": "user", "content": "x"}]);
    let begin = std::time::Instant::now();
    println!("{}", template.chars().take(80).collect::<String>());
    let error = tokenizer(template, &json!({})).apply_chat_template(&messages, &ChatOptions::default()).unwrap_err();
    assert!(begin.elapsed().as_secs() < 30, "{template} took {:?}", begin.elapsed());
    error.to_string()
}

#[test]
fn templates_made_to_harm_are_ended() {
    for template in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{{ range(1000000000000) | list }}",
        "{% set x = 'xxxxxxxx' %}{% for i in range(99) %}{% set x = x ~ x %}{{ x }}{% endfor %}{{ 'x' * 4000000000 }}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'x' * 100000000000 }}",
        "{{ 'x'.center(100000000000) }}",
        "{{ 'x'.zfill(100000000000) }}",
        "{{ 'xxxx'.replace('x', 'x' * 100000000) }}",
        "{{ '%1000000000000d' | format(1) }}",
        "{{ 'x' | indent(1000000000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{{ [1, 2] | tojson(indent=99999999999) }}{{ raise_exception('small') }}",
    ] {
        let error = refused(template);
        assert!(error.contains("the chat template failed"), "{template}: {error}");
    }
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(refused(&nested).contains("the chat template failed"));
}

/// Templates that make values which are larger than what is paid for them.
const BOMBS: [&str; 16] = [
    "{% set ns = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
    "{% set ns = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set ns.x = ns.x * 2 %}{% endfor %}{{ ns.x | list }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x ~ '' }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == [] }}",
    "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x | chain(ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set x = [[[0] * 99999] * 99999] %}{% set y = [[[0] * 99999] * 99999] %}{{ x == y }}",
    "{{ [[[0] * 99999] * 99999] == [[[0] * 99999] * 99999] }}",
    "{{ [[[0] * 9999] * 9999] | sort | unique | list | length }}",
    "{% macro m(x, n) %}{% if n %}{{ m(x + x, n - 1) }}{% else %}{{ x | list }}{% endif %}{% endmacro %}{{ m([1], 60) }}",
    "{% macro m(x, n) %}{% if n %}{{ m([x, x], n - 1) }}{% else %}{{ x is eq(x) }}{% endif %}{% endmacro %}{{ m([1], 60) }}",
    "{% set x = range(90000) | list %}{% set y = range(90000) | list %}{% for i in x %}{% set z = [x] == [y] %}{% endfor %}",
    "{% set x = [range(90000) | list] %}{% for i in range(90000) %}{% set z = x ~ '' %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x }}",
];

/// The largest resident size so far, in MiB.
#[cfg(target_os = "linux")]
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn values_that_grow_unpaid_are_ended_within_a_second() {
    for template in BOMBS {
        // of the thread, so that a busy machine changes nothing
        let begin = ThreadTime::now();
        let error = refused(template);
        assert!(begin.elapsed().as_millis() < 1000, "{template} took {:?}", begin.elapsed());
        assert!(error.contains("the chat template failed"), "{template}: {error}");
        #[cfg(target_os = "linux")]
        assert!(peak_mib() < 600, "{template} took {} MiB", peak_mib());
    }
}

#[test]
fn long_conversations_are_no_bombs() {
    let turns =
        (0..600).map(|i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": "word ".repeat(40)}));
    let messages = Value::Array(turns.collect());
    for name in ["qwen", "llama", "mistral", "granite"] {
        let template = std::fs::read_to_string(fixture(&format!("chats/{name}.jinja"))).unwrap();
        let tokenizer = tokenizer(&template, &fixture_json("chats.json")["special_tokens"]);
        let text = tokenizer.apply_chat_template(&messages, &ChatOptions::default()).unwrap();
        assert!(text.len() > 600 * 200, "{name}: {}", text.len());
    }
    let collected = "{% set ns = namespace(all=[]) %}{% for m in messages %}{% set ns.all = ns.all + [m] %}{% endfor %}{{ ns.all | length }}";
    let text = tokenizer(collected, &json!({})).apply_chat_template(&messages, &ChatOptions::default()).unwrap();
    assert_eq!(text, "600");
}

#[test]
fn what_is_wrong_with_a_template_is_said_with_its_line() {
    assert!(refused("a\n{% if x %}\nb").contains("line"));
    assert!(refused("a\nb\n{{ nothing.here.at_all }}").contains("line 3"));
    assert!(refused("{{ raise_exception('roles must alternate') }}").contains("roles must alternate"));
    assert!(refused("{{ undefined_name | tojson }}").contains("JSON has no undefined"));
    let template = tokenizer("{{ messages }}", &json!({}));
    let error = |messages| template.apply_chat_template(&messages, &ChatOptions::default()).unwrap_err().to_string();
    assert!(error(json!([])).contains("there are no messages"));
    assert!(error(json!([{}, "x"])).contains("message 1 is no object"));
}
