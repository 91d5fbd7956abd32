//! What is wrong with a graph in the text form is shown in the text: line, column, and a caret under the place.

mod common;

use common::plan;
use patchbay_graph::text::{TextGraph, print};
use patchbay_graph::{Code, Problem};
use serde_json::json;

/// The place that a problem gives, and the place at which its caret stands in the line that it shows.
#[track_caller]
fn place(problem: &Problem) -> (usize, usize) {
    let (line, column) = (problem.line.expect("a line"), problem.column.expect("a column"));
    let shown: Vec<&str> = problem.detail.lines().rev().take(2).collect();
    let bar = shown[1].find(" | ").expect("a line of the text") + 3;
    assert_eq!(shown[1][..bar].trim_end_matches(" | ").trim(), line.to_string(), "{problem}");
    assert_eq!(shown[0].find('^').map(|caret| caret - bar + 1), Some(column), "{problem}");
    assert_eq!(problem.pointer, "/graph", "{problem}");
    (line, column)
}

/// The text is refused at the character behind the mark `▼`.
#[track_caller]
fn refused(marked: &str, code: Code, detail: &str, hint: &str) {
    let at = marked.find('▼').expect("a mark");
    let text = marked.replacen('▼', "", 1);
    let line = marked[..at].matches('\n').count() + 1;
    let column = marked[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = plan(json!(text)).expect_err(marked);
    assert_eq!((place(&problem), problem.code), ((line, column), code), "{problem}");
    assert!(problem.detail.contains(detail), "{problem}");
    assert!(problem.hint.as_deref().unwrap_or("").contains(hint), "{problem}");
}

#[test]
fn the_line_is_shown_with_a_caret() {
    let problem = TextGraph::parse("save logits as x\n\n  p =\tsoftmax(é, *)\n").unwrap_err();
    assert_eq!(problem.detail, "expected a value, found `*`\n 3 |   p = softmax(é, *)\n   |                  ^");
    assert_eq!((problem.line, problem.column), (Some(3), Some(18)));
    // of a long line, the part around the place
    let problem = TextGraph::parse(&format!("save [{}%] as x", "1, ".repeat(500))).unwrap_err();
    let shown: Vec<&str> = problem.detail.lines().collect();
    assert_eq!(problem.column, Some(1507));
    assert_eq!(shown[1].chars().count(), " 1 | ".len() + 66);
    assert!(shown[1].starts_with(" 1 | … 1, 1, ") && shown[1].ends_with("1, %] as x"));
    assert_eq!(shown[2].len(), " 1 | ".len() + 60);
    let problem = TextGraph::parse(&format!("% {}", "x".repeat(500))).unwrap_err();
    assert!(problem.detail.lines().nth(1).unwrap().ends_with("xxx…"));
}

#[test]
fn what_is_wrong_with_the_form() {
    let malformed = |marked, detail, hint| refused(marked, Code::Malformed, detail, hint);
    malformed("save ▼as x", "found the word `as`", "a site such as");
    malformed("save logits as▼", "the name of a result, found the end of the text", "quoted");
    malformed("save logits as ▼\n", "found the end of the line", "");
    malformed("save logits to ▼joy", "a tensor's name, found `joy`", "@joy");
    malformed("save logits as x ▼save logits as y", "the end of the line, found `save`", "a line is a node");
    malformed("p = abs(1) ▼@ abs(2)", "found `@`", "matmul");
    malformed("p = abs(1)▼[0]", "found `[`", "a name first");
    malformed("p = logits ▼% 2", "found `%`", "maximum(a, b)");
    malformed("steer layers=[5]▼, vector=@joy", "found `,`", "spaces between them");
    malformed("steer layers=5 vector=@joy tokens=2▼:5", "found `:`", "\"2:5\"");
    malformed("▼logits", "does nothing", "save");
    malformed("p = abs▼(logits", "no `)` closes this bracket", "");
    malformed("p = abs(logits ▼as x", "expected `,` or `)`, found `as`", "closed");
    malformed("p = abs(logits)▼)", "found `)`", "");
    malformed("save ▼[1, 2", "no `]` closes", "");
    malformed("save [1, 2\r\n▼)", "expected `,` or `]`", "");
    malformed("save ▼\"logits\nas x", "no quote closes", "\\n");
    malformed("save logits[:, ▼' Fr]\nas x", "no quote closes", "");
    malformed("save \"a▼\\q\" as x", "escape", "\\u");
    malformed("save \"a▼\\ud800\" as x", "escape", "");
    malformed("save \"a▼\\u12\" as x", "escape", "");
    malformed("save ▼5x as x", "neither a number nor a name", "0.5");
    malformed("save ▼1.2.3 as x", "neither a number nor a name", "");
    malformed("save ▼01 as x", "no 0", "");
    malformed("save ▼1e999 as x", "too large", "");
    malformed("save ▼.5 as x", "found `.`", "");
    malformed("p = 1 < 2 ▼< 3", "do not chain", "brackets");
    malformed("abs(input=1, ▼2)", "behind one with a name", "");
    malformed("abs(1, dim=2, ▼dim=3)", "`dim` is given twice", "");
    malformed("p = abs(1) ▼id=q", "twice", "");
    malformed("abs({x ▼1})", "expected `:`", "");
    malformed("abs({▼5: 1})", "the name of a field", "");
    malformed("é▼\u{301} = abs(1)", "found `\\u{301}`", "");
    refused("save logits▼[:, -1 as x", Code::BadIndex, "no `]` closes this index", "");
    refused("p = ▼layers.5.mlp(logits)", Code::UnknownOp, "not the name of an operation", "`call`");
    refused("top_tokens(1, ▼2)", Code::BadArgument, "takes value", "by name");
    refused("▼true = abs(1)", Code::BadArgument, "`true` means something else", "`$true`");
    refused("p = abs(1)\n▼p += 1", Code::BadArgument, "immutable", "a name of its own");
    refused("p = abs(1)\nsave ▼p/logits as x", Code::UnknownInput, "`p` is no input", "`p / logits`");
    refused("save ▼logits/logits as x", Code::UnknownInput, "`logits` is no input", "`logits / logits`");
}

#[test]
fn what_is_wrong_with_the_nodes() {
    let also = "\nsave logits as also";
    for (marked, code, detail, hint) in [
        ("save ▼logit as x", Code::UnknownSite, "no site `logit`", "`logits`"),
        ("save ▼layers.99.output[:, -1] as x", Code::UnknownSite, "no layer 99", "layers 0 to 3"),
        ("save ▼logits[:, 3] as x", Code::IndexOutOfRange, "", "-3 to 2"),
        ("save logits + ▼layers.0.outputs as x", Code::UnknownSite, "", "`output`"),
        ("save logits ▼+ embed_tokens.output as x", Code::ShapeMismatch, "", "equal or 1"),
        ("p = ▼softmx(logits, -1)", Code::UnknownOp, "`softmx`", "`softmax`"),
        ("p = ▼softmax(logits, 5)\nsave p as p", Code::IndexOutOfRange, "", ""),
        ("p = softmax(logits, ▼\"x\")", Code::BadArgument, "", ""),
        ("p = softmax(logits, -1, ▼dmi=3)", Code::UnknownField, "no field `dmi`", "`dim`"),
        ("# first\n\nsteer layers=[0,\n 1] ▼vectro=@joy vector=@joy", Code::UnknownField, "`vectro`", "`vector`"),
        ("steer layers=0 vector=▼@yoy", Code::UnknownTensor, "@yoy", "`joy`"),
        ("steer layers=0 vector=@joy tokens=▼[0, 9]", Code::IndexOutOfRange, "", ""),
        ("▼steer layers=0", Code::MissingField, "`vector`", ""),
        ("▼save logits", Code::MissingField, "`as`", ""),
        ("save ▼$q as x", Code::UnknownNode, "", ""),
        ("▼@joy += 1", Code::BadArgument, "immutable", ""),
        ("layers.0.output ▼+= [1.0, 2.0]", Code::ShapeMismatch, "", ""),
        ("layers.0.output = ▼[1.0, 2.0]", Code::ShapeMismatch, "", ""),
        ("▼logits += 1", Code::UnreachableWrite, "", ""),
        ("p = ▼abs(1)", Code::UnusedNode, "", ""),
        ("p = abs(1)\n▼p = abs(2)", Code::DuplicateId, "", ""),
        ("save logits as ▼also", Code::DuplicateResult, "", ""),
    ] {
        let marked = if code == Code::UnreachableWrite || code == Code::DuplicateResult {
            format!("save logits as also\n{marked}")
        } else {
            format!("{marked}{also}")
        };
        refused(&marked, code, detail, hint);
    }
}

#[test]
fn what_has_no_place_in_the_text_keeps_its_pointer() {
    let problem = plan(json!("")).unwrap_err();
    assert_eq!((problem.code, problem.pointer.as_str(), problem.line), (Code::NothingSaved, "/graph", None));
    let problem = plan(json!(7)).unwrap_err();
    assert_eq!((problem.code, problem.pointer.as_str(), problem.line), (Code::BadArgument, "/graph", None));
    let problem = plan(json!([{"op": "save", "value": "logit", "as": "x"}])).unwrap_err();
    assert_eq!((problem.pointer.as_str(), problem.line, problem.column), ("/graph/0/value", None, None));
    assert!(!problem.detail.contains('^'));
    let problem = print(&[json!({"op": "x"}), json!(7)]).unwrap_err();
    assert_eq!(problem.pointer, "/graph/1");
}

#[test]
fn pointers_lead_to_the_nearest_part() {
    let graph = TextGraph::parse("\nx = abs(\n  add(logits, [1, [2, 3]], alpha = 2)\n)\n").unwrap();
    for (pointer, place) in [
        ("/graph/0", Some((2, 5))),
        ("/graph/0/op", Some((2, 5))),
        ("/graph/0/id", Some((2, 1))),
        ("/graph/0/args", Some((2, 5))),
        ("/graph/0/args/0", Some((3, 3))),
        ("/graph/0/args/0/args/0", Some((3, 7))),
        ("/graph/0/args/0/args/1", Some((3, 15))),
        ("/graph/0/args/0/args/1/1/0", Some((3, 15))),
        ("/graph/0/args/0/alpha", Some((3, 36))),
        ("/graph/0/args/0/absent", Some((3, 3))),
        ("/graph/1", None),
        ("/graph/x", None),
        ("/graph", None),
        ("/input", None),
        ("", None),
    ] {
        assert_eq!(graph.map.locate(pointer), place, "{pointer}");
    }
}
