//! Gives every value a number, a shape and a type, and notes every access to a site.

use std::collections::HashMap;

use crate::context::Context;
use crate::index::{Index, Item};
use crate::node::{Action, Node, Steer};
use crate::operand::{Operand, SiteOperand};
use crate::ops::{Op, OpSpec};
use crate::path::{find_layer, find_site};
use crate::plan::{Gradient, Returned, Skip, Value, ValueId, Write, WriteMode};
use crate::problem::{Code, Problem, Result};
use crate::selection::Selection;
use crate::shape::Shape;
use crate::site::{LayerSite, Packing, Site};

use super::made::Several;
use super::order::{Ids, ids, order};
use super::sites::{Target, find_input, select};

/// Every value, write and skip of a graph, and the order in which sites are accessed.
pub(super) struct Built {
    pub(super) values: Vec<Value>,
    pub(super) writes: Vec<Write>,
    pub(super) skips: Vec<Skip>,
    pub(super) gradients: Vec<Gradient>,
    pub(super) results: Vec<Returned>,
    pub(super) kept: Vec<(String, ValueId)>,
    /// In the order of the forward pass; at one site, in the order of the list.
    pub(super) accesses: Vec<Access>,
}

/// An access to the pass of one input.
pub(super) struct Access {
    pub(super) site: Site,
    pub(super) node: usize,
    pub(super) input: usize,
    pub(super) what: Accessed,
}

impl Built {
    /// Gives the nodes, of which only some act, their numbers in the request.
    pub(super) fn number(&mut self, acting: &[usize]) {
        self.accesses.iter_mut().for_each(|access| access.node = acting[access.node]);
        self.writes.iter_mut().for_each(|write| write.node = acting[write.node]);
        self.skips.iter_mut().for_each(|skip| skip.node = acting[skip.node]);
    }
}

impl Access {
    /// Sites in the order of the forward pass, nodes in the order of the list; what a skipped block gives out is there first.
    fn order(&self) -> (Site, bool, usize) {
        (self.site, !matches!(self.what, Accessed::Skip(_)), self.node)
    }
}

/// Sorts accesses. A gradient is taken with respect to the site as the writes before it leave it, so that what is read
/// between those writes and the gradient's node is made of it too.
fn sort(accesses: &mut Vec<Access>) {
    accesses.sort_by_key(Access::order);
    // each gradient's place is behind so many of the other accesses: those up to the last write of its input at its site
    let (mut others, mut before_site) = (0, 0);
    let mut last_write: HashMap<usize, usize> = HashMap::new();
    let mut site = None;
    let place = |access: Access| {
        if site.replace(access.site) != Some(access.site) {
            before_site = others;
            last_write.clear();
        }
        if matches!(access.what, Accessed::Grad(..)) {
            return (last_write.get(&access.input).copied().unwrap_or(before_site), true, access);
        }
        others += 1;
        if matches!(access.what, Accessed::Write(_) | Accessed::Skip(_)) {
            last_write.insert(access.input, others);
        }
        (others, false, access)
    };
    let mut placed: Vec<(usize, bool, Access)> = accesses.drain(..).map(place).collect();
    placed.sort_by_key(|(place, gradient, _)| (*place, *gradient));
    accesses.extend(placed.into_iter().map(|(.., access)| access));
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accessed {
    Read(ValueId),
    Write(usize),
    Skip(usize),
    /// A gradient is taken: its number, and that of the site in it.
    Grad(usize, usize),
}

const RENAME: &str = "take another name";

/// How often one graph may read and write sites.
const MAX_ACCESSES: usize = 1 << 16;

/// Walks through the nodes; the module `values` has the part that makes values.
pub(super) struct Builder<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) ids: Ids<'a>,
    /// What each node of the list came to: nothing while it is not built.
    pub(super) done: Vec<Option<Option<ValueId>>>,
    /// Nodes of the list that may have several outputs.
    pub(super) several: HashMap<usize, Several>,
    pub(super) built: Built,
    /// Bytes of all values.
    pub(super) bytes: u64,
    /// Number of the node at hand.
    node: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let built = Built {
            values: Vec::new(),
            writes: Vec::new(),
            skips: Vec::new(),
            gradients: Vec::new(),
            results: Vec::new(),
            kept: Vec::new(),
            accesses: Vec::new(),
        };
        Self { context, ids: Ids::new(), done: Vec::new(), several: HashMap::new(), built, bytes: 0, node: 0 }
    }

    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn build(mut self, nodes: &'a [Node]) -> Result<Built> {
        self.ids = ids(nodes)?;
        self.done = vec![None; nodes.len()];
        for i in order(nodes, &self.ids)? {
            self.node = i;
            self.done[i] = Some(match Several::make(&mut self, &nodes[i])? {
                Some(several) => {
                    self.several.insert(i, several);
                    None
                }
                None => self.action(&nodes[i])?,
            });
        }
        if self.built.results.is_empty() && self.built.kept.is_empty() {
            let problem = Problem::new(Code::NothingSaved, "the graph returns nothing").at("/graph");
            return Err(problem.hint("add {\"op\": \"save\", \"value\": …, \"as\": …}"));
        }
        self.find_unused(nodes)?;
        sort(&mut self.built.accesses);
        Ok(self.built)
    }

    pub(super) fn action(&mut self, node: &Node) -> Result<Option<ValueId>> {
        match &node.action {
            Action::Save { value, name, to } => self.save(node, value, name.as_deref(), to.as_deref()).map(Some),
            Action::Set { target, value } => self.set(node, target, value).map(|()| None),
            Action::Steer(steer) => self.steer(node, steer).map(|()| None),
            Action::Skip { layers, with, input } => {
                self.skip(node, *layers, with.as_ref(), input.as_deref()).map(|()| None)
            }
            Action::TopTokens { value, k, name } => self.top_tokens(node, value, *k, name).map(|()| None),
            Action::Call { module, value } => self.call(node, module, value).map(Some),
            Action::Grad { of, wrt, listed } => {
                let mut gradients = self.grad(node, of, wrt, *listed)?;
                self.gradient_output(&mut gradients, None).map(Some)
            }
            Action::Project { value, output_transform } => self.project(node, value, *output_transform).map(Some),
            Action::Op { .. } => {
                let mut made = self.made(node)?;
                self.output(&mut made, None).map(Some)
            }
        }
    }

    fn save(&mut self, node: &Node, value: &Operand, name: Option<&str>, to: Option<&str>) -> Result<ValueId> {
        let value = self.operand(value)?;
        if let Some(name) = name {
            self.result(node, name, value, None)?;
        }
        if let Some(to) = to {
            if self.built.kept.iter().any(|(kept, _)| kept == to) {
                let detail = format!("`@{to}` is already saved to");
                return Err(Problem::new(Code::DuplicateResult, detail).hint(RENAME).at(format!("{}/to", node.at)));
            }
            self.built.kept.push((to.into(), value));
        }
        Ok(value)
    }

    fn result(&mut self, node: &Node, name: &str, value: ValueId, top_tokens: Option<usize>) -> Result<()> {
        if self.built.results.iter().any(|result| result.name == name) {
            let detail = format!("there are two results with the name `{name}`");
            return Err(Problem::new(Code::DuplicateResult, detail).hint(RENAME).at(format!("{}/as", node.at)));
        }
        self.built.results.push(Returned { name: name.into(), value, top_tokens });
        Ok(())
    }

    fn top_tokens(&mut self, node: &Node, value: &Operand, k: usize, name: &str) -> Result<()> {
        let vocab = self.context.tree.vocab;
        let at = &value.at;
        let value = self.operand(value)?;
        let Value { shape, dtype, .. } = &self.built.values[value];
        if shape.dims.last() != Some(&vocab) || !dtype.is_float() {
            let detail = format!("`top_tokens` wants logits, {vocab} wide; found {dtype} of shape {shape}");
            let problem = Problem::new(Code::ShapeMismatch, detail).at(at);
            return Err(problem.hint("`logits[:, -1]`, or `project_on_vocab` of hidden states"));
        }
        if k == 0 || k > vocab {
            let detail = format!("`k` is {k}, the vocabulary has {vocab} tokens");
            let problem = Problem::new(Code::BadArgument, detail).at(format!("{}/k", node.at));
            return Err(problem.hint(format!("take 1 to {vocab}")));
        }
        self.result(node, name, value, Some(k))
    }

    fn set(&mut self, node: &Node, target: &SiteOperand, value: &Operand) -> Result<()> {
        let at = format!("{}/target", node.at);
        let targets = select(self.context, target).map_err(|problem| problem.at(&at))?;
        let Some(sites) = targets.parts else {
            let problem = Problem::new(Code::UnknownSite, "`next_token_probs` can be read, not written").at(at);
            return Err(problem.hint("write `logits`"));
        };
        let value = self.operand(value)?;
        let count = sites.len();
        for (layer, (site, selection)) in sites.into_iter().enumerate() {
            // the layers of a wildcard are a first axis of what is written, as they are of what is read
            let rank = selection.shape().rank();
            let value = if targets.stacked { self.slice(value, layer, count, rank)? } else { value };
            self.write(node, targets.input, site, selection, value, WriteMode::Replace, &at)?;
        }
        Ok(())
    }

    fn steer(&mut self, node: &Node, steer: &Steer) -> Result<()> {
        let input = self.named_input(node, steer.input.as_deref())?;
        let name = steer.site.as_deref().unwrap_or("output");
        let below = self.residual_site(name).map_err(|problem| problem.at(format!("{}/site", node.at)))?;
        let sites: Vec<Site> = steer
            .layers
            .iter()
            .map(|layer| find_site(self.context.tree, *layer, below))
            .collect::<Result<_>>()
            .map_err(|problem| problem.at(format!("{}/layers", node.at)))?;
        let vector = self.operand(&steer.vector)?;
        let value = match &steer.factor {
            None => vector,
            Some(factor) => {
                let factor = self.operand(factor)?;
                self.op(&node.at, OpSpec::of(Op::Mul), &[vector, factor], Vec::new())?
            }
        };
        let item = |item: &Option<Item>| item.clone().unwrap_or(Item::ALL);
        // rows alone first, so that what is wrong is pointed to
        let rows = Index(vec![item(&steer.rows)]);
        let places = Index(vec![item(&steer.rows), item(&steer.tokens)]);
        let parts = [(rows, "rows"), (places, "tokens")].map(|(index, field)| {
            let target = Target { input, site: sites[0] };
            target.select(self.context, Some(&index)).map_err(|problem| problem.at(format!("{}/{field}", node.at)))
        });
        let [rows, part] = parts;
        let part = rows.and(part)?;
        for site in sites {
            self.write(node, input, site, part.clone(), value, WriteMode::Add, &steer.vector.at)?;
        }
        Ok(())
    }

    /// The input that a node names in its field `input`.
    fn named_input(&self, node: &Node, name: Option<&str>) -> Result<usize> {
        find_input(self.context, name).map_err(|problem| match (name, self.context.inputs.first()) {
            (None, Some(first)) => problem.hint(format!("add \"input\": \"{}\"", first.name)).at(&node.at),
            _ => problem.at(format!("{}/input", node.at)),
        })
    }

    /// A site of a block that is as wide as the residual stream.
    fn residual_site(&self, name: &str) -> Result<LayerSite> {
        let tree = self.context.tree;
        let residual: Vec<LayerSite> = LayerSite::ALL
            .into_iter()
            .filter(|site| tree.packing(Site::Layer(0, *site)) == Some(Packing::Channels { width: tree.hidden }))
            .collect();
        residual.iter().copied().find(|site| site.name() == name).ok_or_else(|| {
            let problem = Problem::new(Code::UnknownSite, format!("`steer` cannot write `layers.i.{name}`"))
                .hint("it writes sites as wide as the residual stream, such as `output`");
            problem.suggest(name, residual.iter().map(|site| site.name()))
        })
    }

    fn skip(
        &mut self,
        node: &Node,
        (first, last): (i64, i64),
        with: Option<&Operand>,
        input: Option<&str>,
    ) -> Result<()> {
        let input = self.named_input(node, input)?;
        let at = format!("{}/layers", node.at);
        let layer = |layer| find_layer(self.context.tree, layer).map_err(|problem| problem.at(&at));
        let (first, last) = (layer(first)?, layer(last)?);
        if first > last {
            let detail = format!("the first layer, {first}, comes after the last, {last}");
            return Err(Problem::new(Code::BadArgument, detail).hint("write [first, last]").at(at));
        }
        if let Some(other) = self.built.skips.iter().find(|s| s.input == input && s.first <= last && first <= s.last) {
            let detail = format!("layers {} to {} are already skipped", other.first, other.last);
            return Err(Problem::new(Code::SkippedBlock, detail).hint("skip them in one node").at(at));
        }
        let with = match with {
            None => None,
            Some(operand) => {
                let value = self.operand(operand)?;
                let target = Target { input, site: Site::Layer(first, LayerSite::Input) };
                self.fits(value, target.select(self.context, None)?.shape(), &operand.at)?;
                Some(value)
            }
        };
        let skip = self.built.skips.len();
        self.built.skips.push(Skip { at: node.at.clone(), node: self.node, input, first, last, with });
        self.access(&node.at, Site::Layer(first, LayerSite::Output), input, Accessed::Skip(skip))
    }

    #[allow(clippy::too_many_arguments, reason = "a write is made of these")]
    fn write(
        &mut self,
        node: &Node,
        input: usize,
        site: Site,
        selection: Selection,
        value: ValueId,
        mode: WriteMode,
        at: &str,
    ) -> Result<()> {
        if selection.shape().elements() == Some(0) {
            let problem = Problem::new(Code::EmptyWrite, format!("the write to `{site}` selects nothing")).at(at);
            return Err(problem.hint("a write touches at least one element; look at the slices of its index"));
        }
        let place = if mode == WriteMode::Add { at.to_owned() } else { format!("{}/value", node.at) };
        self.fits(value, selection.shape(), &place)?;
        let write = self.built.writes.len();
        self.built.writes.push(Write { at: node.at.clone(), node: self.node, input, site, selection, value, mode });
        self.access(&node.at, site, input, Accessed::Write(write))
    }

    /// Whether a value can be broadcast to a part of a site.
    fn fits(&self, value: ValueId, part: &Shape, at: &str) -> Result<()> {
        let found = &self.built.values[value].shape;
        if found.broadcasts_to(part) {
            return Ok(());
        }
        let detail = format!("a value of shape {found} does not broadcast to the part written, {part}");
        let hint = "from the last axis backwards, sizes must be equal or 1";
        Err(Problem::new(Code::ShapeMismatch, detail).hint(hint).at(at))
    }

    /// Notes an access, made by what stands at `at`.
    pub(super) fn access(&mut self, at: &str, site: Site, input: usize, what: Accessed) -> Result<()> {
        if self.built.accesses.len() == MAX_ACCESSES {
            let detail = format!("the graph reads and writes sites more than {MAX_ACCESSES} times");
            return Err(Problem::new(Code::TooLarge, detail).hint("send it in parts").at(at));
        }
        self.built.accesses.push(Access { site, node: self.node, input, what });
        Ok(())
    }

    /// A node of the list whose value nobody takes.
    fn find_unused(&self, nodes: &[Node]) -> Result<()> {
        let built = &self.built;
        let mut used = vec![false; built.values.len()];
        let roots = built.results.iter().map(|result| result.value).chain(built.kept.iter().map(|(_, value)| *value));
        let writes = built.writes.iter().map(|write| write.value);
        let skips = built.skips.iter().filter_map(|skip| skip.with);
        let args = built.values.iter().flat_map(|value| value.args().iter().copied());
        roots.chain(writes).chain(skips).chain(args).for_each(|id| used[id] = true);
        for (i, (node, done)) in nodes.iter().zip(&self.done).enumerate() {
            let unused = match self.several.get(&i) {
                Some(several) => several.is_unused(&used),
                None => done.flatten().is_some_and(|value| !used[value]),
            };
            if unused {
                let problem = Problem::new(Code::UnusedNode, format!("nothing uses the value of this `{}`", node.op()));
                return Err(problem.at(&node.at).hint("save it, use it, or leave it out"));
            }
        }
        Ok(())
    }
}
