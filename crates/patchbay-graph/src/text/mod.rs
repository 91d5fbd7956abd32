//! The text form of a graph: the same nodes, one a line, converted both ways without loss.
//!
//! `scan` reads the smallest pieces, `expr` values, `statement` lines; `lower` turns them into the JSON of the nodes, which
//! then goes the way of every graph, and `print` goes back. `spans` knows where each part of the JSON stood, so that whatever
//! is found wrong later is shown in the text. The grammar is in `docs/text-form.md`.
//!
//! ```
//! use patchbay_graph::text::{TextGraph, print};
//! use serde_json::json;
//!
//! let source = "layers[10].output[:, -1] += 0.5 * @joy\nsave logits[:, -1] as x\n";
//! let graph = TextGraph::parse(source)?;
//! assert_eq!(graph.nodes[1], json!({"op": "save", "value": "logits[:, -1]", "as": "x"}));
//! assert_eq!(graph.map.locate("/graph/1/value"), Some((2, 6)));
//! assert_eq!(print(&graph.nodes)?, source);
//!
//! let problem = TextGraph::parse("save logits[:, -1] * as x").unwrap_err();
//! assert_eq!((problem.line, problem.column), (Some(1), Some(22)));
//! # Ok::<(), patchbay_graph::Problem>(())
//! ```

mod expr;
mod lower;
mod print;
mod scan;
mod spans;
mod statement;
mod words;

use serde_json::Value;
use winnow::error::ErrMode;
use winnow::stream::LocatingSlice;

use crate::problem::{Code, Problem, Result};
use scan::{Fault, Input};
pub use spans::SourceMap;

/// How long a text may be, in bytes. Larger tensors belong in the store.
pub const MAX_TEXT: usize = 16 << 20;

/// A graph that came as text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextGraph {
    /// The nodes as JSON, not yet parsed.
    pub nodes: Vec<Value>,
    /// Where they stand.
    pub map: SourceMap,
}

impl TextGraph {
    /// Reads the text form.
    ///
    /// # Errors
    /// What is wrong with its form, with line and column. What is wrong with the nodes is found as in every graph.
    pub fn parse(source: &str) -> Result<Self> {
        if source.len() > MAX_TEXT {
            let detail = format!("the graph is {} bytes of text, the limit is {MAX_TEXT}", source.len());
            return Err(Problem::new(Code::TooLarge, detail).hint("put large tensors into the store").at("/graph"));
        }
        let mut input = Input { input: LocatingSlice::new(source), state: 0 };
        match statement::lines(&mut input).and_then(lower::lower) {
            Ok((nodes, span)) => Ok(Self { nodes, map: SourceMap::new(source, span) }),
            Err(ErrMode::Backtrack(fault) | ErrMode::Cut(fault)) => Err(fault.in_source(source)),
            Err(ErrMode::Incomplete(_)) => Err(Fault { at: source.len(), problem: None }.in_source(source)),
        }
    }
}

impl Fault {
    fn in_source(self, source: &str) -> Problem {
        let problem =
            self.problem.map_or_else(|| Problem::new(Code::Malformed, "this cannot be read"), |problem| *problem);
        spans::located(problem, source, self.at)
    }
}

/// Writes nodes in the text form: it reads back as the same JSON.
///
/// # Errors
/// A node that is no object; lists and objects too deep in each other; more text than would be read back.
pub fn print(nodes: &[Value]) -> Result<String> {
    let text = print::print(nodes)?;
    if text.len() > MAX_TEXT {
        let detail = format!("the graph would be {} bytes of text, the limit is {MAX_TEXT}", text.len());
        return Err(Problem::new(Code::TooLarge, detail).hint("put large tensors into the store").at("/graph"));
    }
    Ok(text)
}
