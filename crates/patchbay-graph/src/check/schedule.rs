//! Finds what is alive, and puts it into passes.
//!
//! All inputs walk through the layers together, so a value may flow from any site to any later site of any input within one
//! pass. An input whose next write needs a value that is not known yet stops there, and runs again in a later pass, when it
//! is. A pass that makes nothing known that was not known before shows a value that would have to flow backwards.

use std::collections::HashSet;

use crate::context::Context;
use crate::plan::{Pass, Source, Value, ValueId};
use crate::problem::{Code, Problem, Result};
use crate::request::Request;
use crate::site::{LayerSite, Site};

use super::build::{Access, Accessed, Built};
use super::walk::Walk;

/// How many reads, writes and computations all passes may have together.
const MAX_STEPS: usize = 1 << 20;

/// The order in which everything happens.
pub(super) struct Scheduled {
    pub(super) prologue: Vec<ValueId>,
    pub(super) passes: Vec<Pass>,
}

/// # Errors
/// Accesses to skipped blocks, writes that nothing can see, values that would flow backwards.
pub(super) fn schedule(built: &Built, context: &Context<'_>) -> Result<Scheduled> {
    check_skipped(built)?;
    check_reachable(built, context)?;
    let mut known = Known::new(built);
    let prologue = known.prologue();
    let mut finished: Vec<bool> =
        (0..context.inputs.len()).map(|input| !built.accesses.iter().any(|access| access.input == input)).collect();
    let mut passes = Vec::new();
    let mut steps = 0;
    while finished.contains(&false) {
        let mut pass = Walk::new(built, context, &finished).walk(&mut known)?;
        (pass.gradients, pass.after) = known.gradients();
        for input in pass.inputs.iter().filter(|input| input.finished) {
            finished[input.input] = true;
        }
        steps += pass.steps.len();
        passes.push(pass);
        if steps > MAX_STEPS {
            let detail = format!("after {} passes the graph has more than {MAX_STEPS} steps", passes.len());
            let hint = "values that flow back and forth between inputs take a pass each: send the graph in parts";
            return Err(Problem::new(Code::TooLarge, detail).hint(hint).at("/graph"));
        }
    }
    Ok(Scheduled { prologue, passes })
}

/// Which values are known, and what they wait for.
pub(super) struct Known<'a> {
    built: &'a Built,
    pub(super) known: Vec<bool>,
    /// How many arguments of each value are not known yet.
    missing: Vec<usize>,
    users: Vec<Vec<ValueId>>,
}

impl<'a> Known<'a> {
    fn new(built: &'a Built) -> Self {
        let mut users = vec![Vec::new(); built.values.len()];
        // gradients are not computed as soon as their number is known, but when its pass has ended
        let computed = |value: &Value| !matches!(value.source, Source::Grad { .. });
        for (id, value) in built.values.iter().enumerate().filter(|(_, value)| computed(value)) {
            value.args().iter().for_each(|arg| users[*arg].push(id));
        }
        let missing = built.values.iter().map(|value| value.args().len()).collect();
        Self { built, known: vec![false; built.values.len()], missing, users }
    }

    /// Marks everything that needs no pass, and lists it in order.
    fn prologue(&mut self) -> Vec<ValueId> {
        let roots: Vec<ValueId> = (0..self.built.values.len())
            .filter(|id| match &self.built.values[*id].source {
                Source::Literal(_) | Source::Stored { .. } | Source::Weight(_) => true,
                // what is made of nothing, such as `zeros`
                Source::Op { args, .. } => args.is_empty(),
                _ => false,
            })
            .collect();
        let mut order = Vec::new();
        for id in roots {
            order.push(id);
            order.extend(self.learn(id));
        }
        order
    }

    /// The gradients that can be taken now that a pass has ended, and the values that can be made of them.
    fn gradients(&mut self) -> (Vec<usize>, Vec<ValueId>) {
        let (mut taken, mut after) = (Vec::new(), Vec::new());
        for (number, gradient) in self.built.gradients.iter().enumerate() {
            if !self.known[gradient.of] || gradient.wrt.iter().all(|wrt| self.known[wrt.value]) {
                continue;
            }
            taken.push(number);
            for wrt in &gradient.wrt {
                after.extend(self.learn(wrt.value));
            }
        }
        (taken, after)
    }

    /// Marks a value, and lists the values that can be computed now.
    pub(super) fn learn(&mut self, id: ValueId) -> Vec<ValueId> {
        let mut order = Vec::new();
        let mut ready = vec![id];
        while let Some(id) = ready.pop() {
            self.known[id] = true;
            for user in &self.users[id] {
                self.missing[*user] -= 1;
                if self.missing[*user] == 0 {
                    order.push(*user);
                    ready.push(*user);
                }
            }
        }
        order
    }

    /// A read that has to happen before this value is known.
    pub(super) fn unknown_read(&self, mut id: ValueId) -> Option<ValueId> {
        while !self.known[id] {
            let value = &self.built.values[id];
            if matches!(value.source, Source::Read(_)) {
                return Some(id);
            }
            id = *value.args().iter().find(|arg| !self.known[**arg])?;
        }
        None
    }
}

/// Nothing may look inside of a block that does not run.
fn check_skipped(built: &Built) -> Result<()> {
    for access in &built.accesses {
        let Site::Layer(layer, site) = access.site else { continue };
        let Some(skip) = built.skips.iter().find(|s| s.input == access.input && (s.first..=s.last).contains(&layer))
        else {
            continue;
        };
        let (at, allowed) = match access.what {
            Accessed::Skip(_) => continue,
            Accessed::Read(id) => (&built.values[id].at, matches!(site, LayerSite::Input | LayerSite::Output)),
            Accessed::Grad(gradient, wrt) => {
                let at = &built.values[built.gradients[gradient].wrt[wrt].value].at;
                (at, matches!(site, LayerSite::Input | LayerSite::Output))
            }
            Accessed::Write(write) => (
                &built.writes[write].at,
                site == LayerSite::Input && layer == skip.first || site == LayerSite::Output && layer == skip.last,
            ),
        };
        if !allowed {
            let detail = format!("`{}` lies in layers {} to {}, which are skipped", access.site, skip.first, skip.last);
            let hint = format!("`layers.{}.output` is what the skipped blocks give out", skip.last);
            return Err(Problem::new(Code::SkippedBlock, detail).hint(hint).at(at));
        }
    }
    Ok(())
}

/// Forgets what nodes of edits, the first so many, do after the last that the request itself reads of an input. An edit is made
/// for many requests, and some do not look far enough to see it.
pub(super) fn forget_unseen(built: &mut Built, edits: usize) {
    if edits == 0 {
        return;
    }
    let mut read_later: HashSet<usize> = HashSet::new();
    let seen: Vec<bool> = built
        .accesses
        .iter()
        .rev()
        .map(|access| {
            if access.node >= edits && matches!(access.what, Accessed::Read(_)) {
                read_later.insert(access.input);
            }
            access.node >= edits || read_later.contains(&access.input)
        })
        .collect();
    let mut seen = seen.into_iter().rev();
    built.accesses.retain(|_| seen.next().unwrap_or(true));
}

/// Nodes of edits that would write, and touch nothing.
pub(super) fn idle(built: &Built, request: &Request) -> Vec<usize> {
    let edits = request.edits.len();
    let touches =
        |access: &Access| access.node < edits && matches!(access.what, Accessed::Write(_) | Accessed::Skip(_));
    let touching: HashSet<usize> =
        built.accesses.iter().filter(|access| touches(access)).map(|access| access.node).collect();
    (0..edits).filter(|node| !request.graph[*node].has_value() && !touching.contains(node)).collect()
}

/// Every write, and every skip, must come before something that is read from the same input.
fn check_reachable(built: &Built, context: &Context<'_>) -> Result<()> {
    let mut read_later = vec![false; context.inputs.len()];
    let mut unseen = None;
    for access in built.accesses.iter().rev() {
        match access.what {
            Accessed::Read(_) => read_later[access.input] = true,
            Accessed::Grad(..) => {}
            Accessed::Write(_) | Accessed::Skip(_) if read_later[access.input] => {}
            Accessed::Write(write) => {
                unseen = Some((&built.writes[write].at, format!("the write to `{}`", access.site)));
            }
            Accessed::Skip(skip) => {
                unseen = Some((&built.skips[skip].at, format!("skipping layer {}", built.skips[skip].first)));
            }
        }
    }
    match unseen {
        None => Ok(()),
        Some((at, what)) => {
            let detail = format!("{what} changes nothing that is read: no value is taken from the input after it");
            Err(Problem::new(Code::UnreachableWrite, detail)
                .hint("save something after it, such as `logits[:, -1]`")
                .at(at))
        }
    }
}
