//! The steps of a generation: which nodes act at each, and the plan of it.
//!
//! Step 0 is the pass over the prompt, each later one goes over the newest token of every row. A node acts at a step if its
//! `steps` say so and the step's pass has the tokens that it means, and nodes whose value only others take that do not act are
//! left out. From one step to the next the same nodes act as a rule, so that one plan serves for many steps.

use std::collections::HashSet;
use std::sync::Arc;

use super::order::{all, references};
use super::sites::find_input;
use super::window::window;
use crate::context::{Context, TokenRow, TokenRows};
use crate::edit::Edits;
use crate::index::{Coord, Index, Item};
use crate::node::{Action, Node};
use crate::operand::{Operand, OperandKind, SiteOperand};
use crate::path::Resolved;
use crate::plan::Plan;
use crate::problem::{Code, Problem, Result};
use crate::request::Request;
use crate::site::{Packing, Site};
use crate::steps::Steps;
use crate::tree::Tree;

/// A generation of so many tokens of one input. Others are there in step 0 alone.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The request, with a node more that gives the logits of each row's newest token.
    request: Request,
    prompt: TokenRows,
    others: Vec<TokenRows>,
    new_tokens: usize,
}

/// Name of the result that holds the logits `[B, V]` of each row's newest token.
pub const NEXT_LOGITS: &str = "\0next";

/// The nodes that act in a trace. `steps` are those of a generation: a request's own nodes have none, and of its edits' nodes
/// those act that would at step 0.
pub(super) fn in_trace(request: &Request) -> Result<Vec<usize>> {
    let Request { graph, edits, .. } = request;
    if let Some(node) = graph[edits.len()..].iter().find(|node| node.steps.is_some()) {
        let problem = Problem::new(Code::Unsupported, "a trace has no steps").at(format!("{}/steps", node.at));
        return Err(problem.hint("`steps` are those of a generation: /v1/generate"));
    }
    Ok(acting(graph, graph.iter().map(|node| in_step(node, 0)).collect()))
}

impl Generation {
    /// Of a request's graph, beginning with these rows, which may go on from earlier passes, and with those of other inputs.
    ///
    /// # Errors
    /// Something in the graph that a generation does not have.
    pub fn new(mut request: Request, prompt: TokenRows, others: Vec<TokenRows>, new_tokens: usize) -> Result<Self> {
        let graph = all(request.graph.iter());
        if let Some(node) = graph.iter().find(|node| matches!(node.action, Action::Grad { .. })) {
            let problem = Problem::new(Code::Unsupported, "no gradients are taken while text is generated");
            return Err(request.placed(problem.hint("take them in a trace of the whole text").at(&node.at)));
        }
        let at = format!("/graph/{}", request.graph.len() - request.edits.len());
        let site = SiteOperand::parse("logits[:, -1]")?;
        let kind = OperandKind::Site(SiteOperand { input: Some(prompt.name.clone()), ..site });
        let value = Operand { at: at.clone(), kind };
        let action = Action::Save { value, name: Some(NEXT_LOGITS.into()), to: None };
        request.graph.push(Node { at, id: None, steps: None, action });
        Ok(Self { request, prompt, others, new_tokens })
    }

    /// The inputs of a step: that of which text is generated comes first, and after step 0 it is the only one.
    fn inputs(&self, step: usize) -> Vec<TokenRows> {
        let others = self.others.iter().filter(|_| step == 0).cloned();
        std::iter::once(self.input(step)).chain(others).collect()
    }

    /// The tokens of a step, as far as checking has to know them.
    fn input(&self, step: usize) -> TokenRows {
        let more = self.new_tokens.saturating_sub(1 + step);
        let row = |row: &TokenRow| match step {
            0 => TokenRow { more, ..row.clone() },
            _ => TokenRow {
                text: String::new(),
                ends: vec![0],
                past: row.keys() + step - 1,
                more,
                prompt: Some(Arc::new(row.clone())),
            },
        };
        TokenRows { name: self.prompt.name.clone(), rows: self.prompt.rows.iter().map(row).collect() }
    }

    /// The plan of a step. Numbers of nodes are those of the request.
    ///
    /// # Errors
    /// Everything that a graph can get wrong.
    pub fn check(&self, step: usize, context: &Context<'_>) -> Result<Plan> {
        let inputs = self.inputs(step);
        let context = Context { inputs: &inputs, ..*context };
        let acting = self.acting(step, &context);
        let checked = super::check_marked(&self.request, &acting, &context, &|_| 0);
        checked.map(|(plan, _)| plan).map_err(|problem| self.request.placed(problem))
    }

    /// The plan of a step at which some rows are computed again from their start, where the graph does nothing.
    ///
    /// # Errors
    /// More than the server's limits allow.
    pub fn check_again(&self, step: usize, again: &[bool], context: &Context<'_>) -> Result<Plan> {
        let mut input = self.input(step);
        for (row, _) in input.rows.iter_mut().zip(again).filter(|(_, again)| **again) {
            *row = TokenRow { ends: vec![0; row.keys()], past: 0, ..row.clone() };
        }
        let graph = self.request.graph.last().cloned().into_iter().collect();
        let request = Request { graph, edits: Edits::default(), ..self.request.clone() };
        super::check(&request, &Context { inputs: &[input], ..*context })
    }

    /// Whether the graph does nothing.
    pub fn is_plain(&self) -> bool {
        self.request.graph.len() == 1
    }

    /// The steps at which another plan begins, 0 and 1 among them.
    ///
    /// # Errors
    /// A node acts at no step at all, or stops to skip blocks while the generation goes on.
    pub fn changes(&self, context: &Context<'_>) -> Result<Vec<usize>> {
        let mut changes = self.bounds();
        changes.retain(|step| *step < self.new_tokens.max(1));
        changes.extend([0, 1].into_iter().filter(|step| *step < self.new_tokens.max(1)));
        changes.sort_unstable();
        changes.dedup();
        let (mut acted, mut before) = (HashSet::new(), HashSet::new());
        for step in &changes {
            let inputs = self.inputs(*step);
            let context = Context { inputs: &inputs, ..*context };
            let acting: HashSet<usize> = self.acting(*step, &context).into_iter().collect();
            self.check_others(*step, &acting, &context)?;
            let skips = |number: &&usize| matches!(self.request.graph[**number].action, Action::Skip { .. });
            if let Some(number) = before.difference(&acting).find(|number| skips(number)) {
                let detail =
                    format!("the blocks would run again from step {step} on, without keys of the tokens before");
                let problem = Problem::new(Code::SkippedBlock, detail).at(&self.request.graph[*number].at);
                return Err(self.request.placed(problem.hint("a skip lasts to the end of the generation")));
            }
            acted.extend(acting.iter().copied());
            before = acting;
        }
        // an edit is made for many generations, of which some are too short for some of it
        match (self.request.edits.len()..self.request.graph.len()).find(|number| !acted.contains(number)) {
            None => Ok(changes),
            Some(number) => {
                let node = &self.request.graph[number];
                let detail = format!("this `{}` acts at no step of the generation", node.op());
                let hint = format!("its steps go from 0, the prompt's, to {}", self.new_tokens.saturating_sub(1));
                Err(self.request.placed(Problem::new(Code::EmptyWrite, detail).hint(hint).at(&node.at)))
            }
        }
    }

    /// What a node does to the text's own input at this step must not need what other inputs hold: that is there in step 0 alone.
    fn check_others(&self, step: usize, acting: &HashSet<usize>, context: &Context<'_>) -> Result<()> {
        let graph = &self.request.graph;
        if step == 0 || self.others.is_empty() {
            return Ok(());
        }
        let here: Vec<bool> = graph.iter().map(|node| !self.names_other(node)).collect();
        let needs = needs(graph);
        let found = (self.request.edits.len()..graph.len()).find(|number| {
            let node = &graph[*number];
            let wanted = !acting.contains(number) && in_step(node, step) && self.is_of_text(node, context);
            wanted && !propagated(here.clone(), &needs)[*number]
        });
        let Some(number) = found else { return Ok(()) };
        let names: Vec<&str> = self.others.iter().map(|input| input.name.as_str()).collect();
        let detail = format!(
            "at step {step} this needs what `{}` holds, which is there in step 0 alone, the prompt's",
            names.join("`, `")
        );
        let problem = Problem::new(Code::UnknownInput, detail).at(&graph[number].at);
        let hint = "give it `\"steps\": \"prompt\"`; for all steps save the value with a trace, `\"to\": \"@name\"`, and take `@name` here";
        Err(self.request.placed(problem.hint(hint)))
    }

    /// Whether a node names an input that is there in step 0 alone.
    fn names_other(&self, node: &Node) -> bool {
        let mut found = false;
        for node in all(std::iter::once(node)) {
            accesses(node, &mut |_, site| found |= self.is_of_other(site));
        }
        found
    }

    /// Whether a site is of such an input.
    fn is_of_other(&self, site: &SiteOperand) -> bool {
        self.others.iter().any(|input| site.input.as_deref() == Some(&*input.name))
    }

    /// Whether a node names a site of the input of which text is generated, of which this pass has tokens that are meant.
    fn is_of_text(&self, node: &Node, context: &Context<'_>) -> bool {
        let mut found = false;
        for node in all(std::iter::once(node)) {
            accesses(node, &mut |index, site| {
                found |= site.input.as_deref() == Some(&*self.prompt.name) && is_here(index, site, context);
            });
        }
        found
    }

    /// Whether each step has a plan of its own: something looks at attention matrices, which grow.
    pub fn grows(&self, tree: &Tree) -> bool {
        let mut found = false;
        self.sites(&mut |_, site| {
            let packing = |site: &Site| matches!(tree.packing(*site), Some(Packing::Pairs { .. }));
            found |= !self.is_of_other(site) && sites(site, tree).iter().any(packing);
        });
        found
    }

    /// Numbers of the nodes that act at a step.
    fn acting(&self, step: usize, context: &Context<'_>) -> Vec<usize> {
        let graph = &self.request.graph;
        let here = |node| has_tokens(node, context) && (step == 0 || self.others.is_empty() || !self.names_other(node));
        acting(graph, graph.iter().map(|node| in_step(node, step) && here(node)).collect())
    }

    /// The steps at which nodes may begin or stop to act.
    fn bounds(&self) -> Vec<usize> {
        let mut bounds: Vec<usize> =
            self.request.graph.iter().filter_map(|node| node.steps.as_ref()).flat_map(Steps::bounds).collect();
        let mut reached = |position: usize| {
            for row in &self.prompt.rows {
                // the step that computes a position beyond the prompt, and the one after it
                let step = (position + 1).saturating_sub(row.keys());
                bounds.extend([step, step + 1]);
            }
        };
        let mut item = |item: &Item| match item {
            Item::Span { start, stop, step } => {
                let ends = [*start, *stop].into_iter().flatten().filter_map(|end| usize::try_from(end).ok());
                ends.for_each(&mut reached);
                if !matches!(step, 1 | -1) {
                    (0..self.prompt.rows.iter().map(TokenRow::keys).max().unwrap_or(0) + self.new_tokens)
                        .for_each(&mut reached);
                }
            }
            item => item.coords().iter().for_each(|coord| {
                if let Coord::Int(place @ 0..) = coord {
                    reached(*place as usize);
                }
            }),
        };
        self.sites(&mut |index, _| index.iter().flat_map(|index| &index.0).for_each(&mut item));
        bounds
    }

    /// Every site that the graph names, with its index.
    fn sites(&self, found: &mut dyn FnMut(Option<&Index>, &SiteOperand)) {
        all(self.request.graph.iter()).into_iter().for_each(|node| accesses(node, found));
    }
}

/// Whether a node's `steps` hold a step.
fn in_step(node: &Node, step: usize) -> bool {
    node.steps.as_ref().is_none_or(|steps| steps.contains(step))
}

/// Numbers of the nodes that act, of which some are known not to: what needs one of these does not act either, nor does what is
/// only there for such.
fn acting(graph: &[Node], mut acts: Vec<bool>) -> Vec<usize> {
    if !acts.contains(&false) {
        return (0..graph.len()).collect();
    }
    let needs = needs(graph);
    acts = propagated(acts, &needs);
    let mut users = vec![(0, 0); graph.len()];
    for (number, needs) in needs.iter().enumerate() {
        for needed in needs {
            users[*needed].0 += 1;
            users[*needed].1 += usize::from(acts[number]);
        }
    }
    let mut open: Vec<usize> = (0..graph.len()).filter(|number| acts[*number]).collect();
    while let Some(number) = open.pop() {
        let idle = acts[number] && graph[number].has_value() && users[number].0 > 0 && users[number].1 == 0;
        if idle {
            acts[number] = false;
            for needed in &needs[number] {
                users[*needed].1 = users[*needed].1.saturating_sub(1);
                open.push(*needed);
            }
        }
    }
    (0..graph.len()).filter(|number| acts[*number]).collect()
}

/// Numbers of the nodes whose values each node takes.
fn needs(graph: &[Node]) -> Vec<Vec<usize>> {
    let ids = super::order::ids(graph).unwrap_or_default();
    let needed = |node| references(node).into_iter().filter_map(|(id, _)| ids.get(id).copied()).collect();
    graph.iter().map(needed).collect()
}

/// The same less the nodes that need one that is missing.
fn propagated(mut there: Vec<bool>, needs: &[Vec<usize>]) -> Vec<bool> {
    while let Some(number) =
        (0..there.len()).find(|number| there[*number] && needs[*number].iter().any(|needed| !there[*needed]))
    {
        there[number] = false;
    }
    there
}

/// The sites that a node names itself, with their indices.
fn accesses(node: &Node, found: &mut dyn FnMut(Option<&Index>, &SiteOperand)) {
    match &node.action {
        Action::Set { target, .. } => found(target.index.as_ref(), target),
        Action::Steer(steer) => {
            let item = |item: &Option<Item>| item.clone().unwrap_or(Item::ALL);
            let index = Index(vec![item(&steer.rows), item(&steer.tokens)]);
            if let Ok(site) = SiteOperand::parse("layers[0].output") {
                found(Some(&index), &SiteOperand { input: steer.input.clone(), ..site });
            }
        }
        _ => {}
    }
    for operand in node.operands() {
        if let OperandKind::Site(site) = &operand.kind {
            found(site.index.as_ref(), site);
        }
    }
}

fn sites(site: &SiteOperand, tree: &Tree) -> Vec<Site> {
    match site.path.resolve(tree) {
        Ok(Resolved::One(site)) => vec![site],
        Ok(Resolved::Many(sites)) => sites,
        Ok(Resolved::NextTokenProbs) | Err(_) => Vec::new(),
    }
}

/// Whether the pass has some of the tokens that each site of a node means. What is wrong is found when it is checked.
fn has_tokens(node: &Node, context: &Context<'_>) -> bool {
    let mut here = true;
    for node in all(std::iter::once(node)) {
        accesses(node, &mut |index, site| here &= is_here(index, site, context));
    }
    here
}

/// Whether the pass has some of the tokens that are meant of a site.
fn is_here(index: Option<&Index>, site: &SiteOperand, context: &Context<'_>) -> bool {
    let Ok(input) = find_input(context, site.input.as_deref()) else { return true };
    let packing = sites(site, context.tree).first().and_then(|site| context.tree.packing(*site));
    packing.is_none_or(|packing| !matches!(window(index, &context.inputs[input], packing), Ok(None)))
}
