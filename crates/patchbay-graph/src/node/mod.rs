//! Nodes: what a graph is a list of.

mod arguments;
mod json;
mod parse;

use crate::index::Item;
use crate::operand::{Operand, OperandKind, SiteOperand};
use crate::ops::{Attr, OpSpec};
use crate::steps::Steps;

/// One node of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// JSON pointer to it.
    pub at: String,
    /// The name by which others take its value.
    pub id: Option<String>,
    /// At which steps of a generation it acts, where that is said.
    pub steps: Option<Steps>,
    /// What it does.
    pub action: Action,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Returns a value, or keeps it on the server.
    Save {
        /// What to save.
        value: Operand,
        /// Name of the result (`as`).
        name: Option<String>,
        /// Name in the caller's store (`to`), without the `@`.
        to: Option<String>,
    },
    /// Replaces part of a site.
    Set {
        /// The site, index included.
        target: SiteOperand,
        /// What it becomes.
        value: Operand,
    },
    /// Adds a multiple of a vector to the residual stream of several layers.
    Steer(Box<Steer>),
    /// Leaves out blocks.
    Skip {
        /// First and last of them, inclusive.
        layers: (i64, i64),
        /// Their output, or the first one's input.
        with: Option<Operand>,
        /// Which input.
        input: Option<String>,
    },
    /// `lm_head(ln_final(x))`.
    Project {
        /// The hidden states, D wide.
        value: Operand,
        /// Whether the soft cap or scale is added.
        output_transform: bool,
    },
    /// The likeliest tokens.
    TopTokens {
        /// Logits, V wide.
        value: Operand,
        /// How many.
        k: usize,
        /// Name of the result.
        name: String,
    },
    /// A module of the model, applied to a value.
    Call {
        /// Its name.
        module: String,
        /// What it is applied to.
        value: Operand,
    },
    /// Gradients of a number with respect to sites.
    Grad {
        /// The number.
        of: Operand,
        /// The sites, index included.
        wrt: Vec<SiteOperand>,
        /// Whether they were given as a list.
        listed: bool,
    },
    /// A tensor operation.
    Op {
        /// Which.
        spec: &'static OpSpec,
        /// Its values by parameter name, in the table's order.
        args: Vec<(&'static str, Operand)>,
        /// Its other arguments by parameter name.
        attrs: Vec<(&'static str, Attr)>,
        /// The output that the node stands for, its first one if it does not say.
        out: Option<String>,
    },
}

/// The fields of `steer`.
#[derive(Clone, Debug, PartialEq)]
pub struct Steer {
    /// Layers whose output is steered.
    pub layers: Vec<i64>,
    /// What is added, D wide.
    pub vector: Operand,
    /// By what it is multiplied.
    pub factor: Option<Operand>,
    /// Which tokens, or all.
    pub tokens: Option<Item>,
    /// Which rows, or all.
    pub rows: Option<Item>,
    /// Which input.
    pub input: Option<String>,
    /// The site below the layer, `output` if not given.
    pub site: Option<String>,
}

impl PartialEq for OpSpec {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op
    }
}

impl Node {
    /// Name of the operation.
    pub fn op(&self) -> &'static str {
        match &self.action {
            Action::Save { .. } => "save",
            Action::Set { .. } => "set",
            Action::Steer(_) => "steer",
            Action::Skip { .. } => "skip",
            Action::Project { .. } => "project_on_vocab",
            Action::TopTokens { .. } => "top_tokens",
            Action::Call { .. } => "call",
            Action::Grad { .. } => "grad",
            Action::Op { spec, .. } => spec.name,
        }
    }
}

impl Node {
    /// Its operands.
    pub fn operands(&self) -> Vec<&Operand> {
        match &self.action {
            Action::Save { value, .. }
            | Action::Set { value, .. }
            | Action::Call { value, .. }
            | Action::Grad { of: value, .. }
            | Action::Project { value, .. }
            | Action::TopTokens { value, .. } => vec![value],
            Action::Steer(steer) => std::iter::once(&steer.vector).chain(&steer.factor).collect(),
            Action::Skip { with, .. } => with.iter().collect(),
            Action::Op { args, .. } => args.iter().map(|(_, arg)| arg).collect(),
        }
    }

    /// Its operands, to be changed.
    pub(crate) fn operands_mut(&mut self) -> Vec<&mut Operand> {
        match &mut self.action {
            Action::Save { value, .. }
            | Action::Set { value, .. }
            | Action::Call { value, .. }
            | Action::Grad { of: value, .. }
            | Action::Project { value, .. }
            | Action::TopTokens { value, .. } => vec![value],
            Action::Steer(steer) => {
                let Steer { vector, factor, .. } = &mut **steer;
                std::iter::once(vector).chain(factor).collect()
            }
            Action::Skip { with, .. } => with.iter_mut().collect(),
            Action::Op { args, .. } => args.iter_mut().map(|(_, arg)| arg).collect(),
        }
    }

    /// Whether others can take its value.
    pub fn has_value(&self) -> bool {
        matches!(self.action, Action::Op { .. } | Action::Project { .. } | Action::Call { .. } | Action::Grad { .. })
    }
}

impl Operand {
    /// The node written in place, if it is one.
    pub fn inline(&self) -> Option<&Node> {
        match &self.kind {
            OperandKind::Inline(node) => Some(node),
            _ => None,
        }
    }
}
