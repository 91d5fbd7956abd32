//! The order in which the nodes of a list are understood: each after those whose values it takes.

use std::collections::HashMap;

use crate::node::Node;
use crate::operand::{Operand, OperandKind};
use crate::problem::{Code, Problem, Result};

/// Numbers of the nodes by id.
pub(super) type Ids<'a> = HashMap<&'a str, usize>;

/// # Errors
/// Two nodes with one id.
pub(super) fn ids(nodes: &[Node]) -> Result<Ids<'_>> {
    let mut ids = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        let Some(id) = &node.id else { continue };
        if let Some(first) = ids.insert(id.as_str(), i) {
            let detail = format!("the id `{id}` is taken by node {first}");
            let problem = Problem::new(Code::DuplicateId, detail).at(format!("{}/id", node.at));
            return Err(problem.hint("take another id"));
        }
    }
    Ok(ids)
}

/// List order, but every node after those it needs.
///
/// # Errors
/// A node that is not there, a node that needs itself.
pub(super) fn order(nodes: &[Node], ids: &Ids<'_>) -> Result<Vec<usize>> {
    let mut order = Vec::with_capacity(nodes.len());
    let mut state = vec![State::New; nodes.len()];
    for first in 0..nodes.len() {
        // depth first, with a stack of our own: a chain may be as long as the list
        let mut stack = vec![first];
        while let Some(&i) = stack.last() {
            if state[i] == State::Done {
                stack.pop();
                continue;
            }
            state[i] = State::Open;
            let waits = stack.len();
            for needed in needs(&nodes[i], ids)? {
                match state[needed.node] {
                    State::Done => {}
                    State::New => stack.push(needed.node),
                    State::Open => {
                        let detail = format!("node {i} needs its own value");
                        let hint = "a value can only be made of values that are there before it";
                        return Err(Problem::new(Code::Cycle, detail).hint(hint).at(needed.at));
                    }
                }
            }
            if stack.len() == waits {
                state[i] = State::Done;
                order.push(i);
            }
        }
    }
    Ok(order)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// A reference to another node, and where it stands.
struct Needed<'a> {
    node: usize,
    at: &'a str,
}

fn needs<'a>(node: &'a Node, ids: &Ids<'_>) -> Result<Vec<Needed<'a>>> {
    let needed = |(id, at)| match ids.get(id) {
        Some(node) => Ok(Needed { node: *node, at }),
        None => {
            let problem = Problem::new(Code::UnknownNode, format!("there is no node with the id `{id}`"));
            Err(problem.suggest(id, ids.keys().copied().filter(|id| !id.starts_with('@'))).at(at))
        }
    };
    references(node).into_iter().map(needed).collect()
}

/// The ids of the nodes whose values a node takes, and where they stand.
pub(super) fn references(node: &Node) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut open: Vec<&Operand> = node.operands();
    while let Some(operand) = open.pop() {
        match &operand.kind {
            OperandKind::Inline(node) => open.extend(node.operands()),
            OperandKind::Node { id, .. } => found.push((id.as_str(), operand.at.as_str())),
            _ => {}
        }
    }
    found
}

/// Number of nodes, those written into others included.
pub(super) fn count(nodes: &[Node]) -> usize {
    all(nodes.iter()).len()
}

/// Every node, each with those written into it behind it.
pub(super) fn all<'a>(nodes: impl DoubleEndedIterator<Item = &'a Node>) -> Vec<&'a Node> {
    let (mut all, mut open) = (Vec::new(), nodes.rev().collect::<Vec<_>>());
    while let Some(node) = open.pop() {
        all.push(node);
        open.extend(node.operands().into_iter().filter_map(Operand::inline));
    }
    all
}
