//! Nothing that can stand in a text panics, overflows the stack, or takes long.

use std::time::Duration;

use cpu_time::ThreadTime;
use patchbay_graph::text::{MAX_TEXT, TextGraph, print};
use patchbay_graph::{Code, Problem, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What every answer has to come within, on a busy machine and without optimisation.
const LONG: Duration = Duration::from_secs(10);

#[track_caller]
fn soon<T>(read: impl FnOnce() -> T) -> T {
    let start = ThreadTime::now();
    let found = read();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    found
}

#[track_caller]
fn refused_soon(text: &str) -> Problem {
    let problem = soon(|| TextGraph::parse(text)).expect_err("it is too much");
    assert!(problem.detail.len() < 4096, "the answer is brief: {} bytes", problem.detail.len());
    assert!(problem.line.is_some());
    problem
}

#[test]
fn deep_nesting() {
    for open in ["(", "[", "-", "abs(", "{a: ", "2 ** ", "[-(", "tensor([", "1 + ("] {
        for text in
            [open.repeat(500_000), format!("save {}", open.repeat(500_000)), format!("x = {}1", open.repeat(500_000))]
        {
            let problem = refused_soon(&text);
            assert_eq!(problem.code, Code::TooLarge, "{open}: {problem}");
        }
    }
    for chain in [" + x", " * x", " ** x", " - -x", " == (x"] {
        assert_eq!(refused_soon(&format!("save x{}", chain.repeat(100_000))).code, Code::TooLarge, "{chain}");
    }
    assert_eq!(refused_soon(&format!("save {}", "x = ".repeat(100_000))).code, Code::Malformed);
    assert_eq!(refused_soon(&"[".repeat(2_000_000).replacen('[', "x[", 1)).code, Code::BadIndex);
    soon(|| TextGraph::parse(&format!("save x{}{} as x", "[".repeat(500_000), "]".repeat(500_000)))).unwrap();
}

/// As many nodes as JSON takes in each other can be written, and no more can be read.
#[test]
fn the_limits_agree() {
    let nest = |depth: usize| (0..depth).fold(json!("logits"), |inner, _| json!({"op": "neg", "args": [inner]}));
    let request = |value: Value| {
        let text = print(&[json!({"op": "save", "value": value, "as": "x"})]).unwrap();
        Request::parse(&json!({"input": "x", "graph": text}))
    };
    request(nest(64)).unwrap();
    let problem = request(nest(65)).unwrap_err();
    assert_eq!((problem.code, problem.line), (Code::TooLarge, Some(1)));
    let deepest = (0..159).fold(json!(1), |inner, _| json!([inner]));
    let text = print(&[json!({"op": "abs", "x": deepest})]).unwrap();
    assert_eq!(TextGraph::parse(&text).unwrap().nodes[0]["x"], deepest);
    let deeper = json!([deepest]);
    assert_eq!(print(&[json!({"op": "abs", "x": deeper})]).unwrap_err().code, Code::TooLarge);
    assert_eq!(refused_soon(&text.replacen('[', "[[", 1).replacen(']', "]]", 1)).code, Code::TooLarge);
}

#[test]
fn small_stacks() {
    // what is as deep as may be fits a small stack many times over
    let deep = (0..159).fold(json!(["@a"]), |inner, _| json!([inner]));
    let nodes = [
        json!({"op": "abs", "x": deep[0]}),
        (0..78).fold(json!("@a"), |inner, _| json!({"op": "abs", "args": [inner]})),
    ];
    let text = print(&nodes).unwrap();
    let read = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        let read = TextGraph::parse(&text).unwrap();
        assert_eq!(print(&read.nodes).unwrap(), text);
        read.nodes
    });
    assert_eq!(read.unwrap().join().unwrap(), nodes);
}

#[test]
fn much_of_everything() {
    let many = 300_000;
    assert_eq!(soon(|| TextGraph::parse(&"save logits as x\r\n".repeat(many))).unwrap().nodes.len(), many);
    assert_eq!(soon(|| TextGraph::parse(&"\n".repeat(many * 10))).unwrap().nodes.len(), 0);
    assert_eq!(soon(|| TextGraph::parse(&"# comment\n".repeat(many))).unwrap().nodes.len(), 0);
    soon(|| TextGraph::parse(&format!("save [{}] as x", "1.5, ".repeat(many)))).unwrap();
    soon(|| TextGraph::parse(&format!("save [{}] as x", "-@a, ".repeat(many)))).unwrap();
    soon(|| TextGraph::parse(&format!("save ({}x) as x", "# comment\n".repeat(many)))).unwrap();
    soon(|| TextGraph::parse(&format!("save{}x as x", " ".repeat(many)))).unwrap();
    soon(|| TextGraph::parse(&format!("save {}x{} as x", "(  ".repeat(150), "  )".repeat(150)))).unwrap();
    soon(|| TextGraph::parse(&format!("save x{} as x", ".y".repeat(many)))).unwrap();
    soon(|| TextGraph::parse(&format!("save x{} as x", "[0]".repeat(many)))).unwrap();
    soon(|| TextGraph::parse(&format!("save {} as {}", "é".repeat(many), "x".repeat(many)))).unwrap();
    let fields: String = (0..many / 10).map(|i| format!(" f{i}={i}")).collect();
    soon(|| TextGraph::parse(&format!("steer{fields}"))).unwrap();
    let names: String = (0..many / 10).map(|i| format!("n{i} = abs(n{})\n", i + 1)).collect();
    let nodes = soon(|| TextGraph::parse(&names)).unwrap().nodes;
    assert_eq!(
        soon(|| print(&nodes)).unwrap().replace("n30000", "x"),
        names.replace("$n30000", "n30000").replace("n30000", "x")
    );
    refused_soon(&"9".repeat(many));
    refused_soon(&format!("save {}", "9".repeat(many)));
    refused_soon(&format!("save \"{}", "\\n".repeat(many)));
    refused_soon(&format!("save [{}", "1, ".repeat(many)));
    refused_soon(&"x ".repeat(many));
    refused_soon(&"x,".repeat(many));
    let problem = soon(|| TextGraph::parse(&" ".repeat(MAX_TEXT + 1))).unwrap_err();
    assert_eq!((problem.code, problem.pointer.as_str()), (Code::TooLarge, "/graph"));
    let problem = soon(|| print(&[json!({"op": "save", "value": "x".repeat(MAX_TEXT), "as": "x"})])).unwrap_err();
    assert_eq!(problem.code, Code::TooLarge);
}

/// Pieces of the language in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "save ",
        "steer ",
        "skip ",
        " as ",
        " to ",
        "logits",
        "layers[5].output",
        "layers.*.",
        "clean/",
        "p",
        "$p",
        "@joy",
        "$",
        "@",
        " = ",
        " += ",
        "==",
        "+",
        "-",
        " * ",
        "**",
        "/",
        "(",
        ")",
        "[",
        "]",
        "[:, -1]",
        "{",
        "}",
        "{x}",
        ",",
        ":",
        ".",
        "5",
        "0.5",
        "1e",
        "\"",
        "'",
        "\\",
        "\\u00",
        "\\ud83d",
        "é",
        "\u{301}",
        "\u{2028}",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "#",
        " ",
        "dim=",
        "softmax(",
        "tensor(",
        "true",
        "NaN",
        "Infinity",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_text_is_read_or_refused(any in "(?s).{0,40}", pieces in pieces()) {
        for text in [any, pieces] {
            match TextGraph::parse(&text) {
                Ok(read) => {
                    let written = print(&read.nodes).unwrap();
                    let again = TextGraph::parse(&written).unwrap_or_else(|problem| panic!("{text:?} -> {written:?}: {problem}"));
                    prop_assert_eq!(&again.nodes, &read.nodes, "{:?} -> {:?}", text, written);
                    prop_assert_eq!(print(&again.nodes).unwrap(), written);
                }
                Err(problem) => {
                    let line = text.split('\n').nth(problem.line.unwrap() - 1).unwrap();
                    prop_assert!((1..=line.chars().count() + 1).contains(&problem.column.unwrap()), "{:?}: {}", text, problem);
                }
            }
            let _ = Request::parse(&json!({"input": "x", "graph": text}));
        }
    }
}
