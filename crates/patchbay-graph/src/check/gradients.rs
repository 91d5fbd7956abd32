//! Gradients: with respect to what they are taken, and whether there is a way for them.

use std::collections::{HashMap, HashSet};

use super::build::{Accessed, Builder, Built};
use super::sites::select;
use crate::dtype::DType;
use crate::node::Node;
use crate::operand::{Operand, SiteOperand};
use crate::plan::{Gradient, Source, Value, ValueId, Wrt};
use crate::problem::{Code, Problem, Result};

/// What a `grad` node came to.
pub(super) enum Gradients {
    /// The gradient with respect to one site, or to those of a wildcard, stacked.
    One(ValueId),
    /// Those of a list; where their shapes are alike the node stands for all of them, stacked on a new first axis.
    Listed { at: String, values: Vec<ValueId>, stacked: Option<ValueId> },
}

impl Builder<'_> {
    /// The gradients of a number with respect to sites.
    pub(super) fn grad(&mut self, node: &Node, of: &Operand, wrt: &[SiteOperand], listed: bool) -> Result<Gradients> {
        let at = &of.at;
        let of = self.operand(of)?;
        let Value { shape, dtype, .. } = &self.built.values[of];
        if shape.elements() != Some(1) || !dtype.is_float() {
            let detail = format!("a gradient is that of a single float; found {dtype} of shape {shape}");
            let problem = Problem::new(Code::ShapeMismatch, detail).at(at);
            return Err(
                problem.hint("make one number of it, for example with `sum`, which gives every row its own gradient")
            );
        }
        // gradients of one number are taken on one way back
        let known = self.built.gradients.iter().position(|gradient| gradient.of == of);
        let number = known.unwrap_or_else(|| {
            self.built.gradients.push(Gradient { at: node.at.clone(), of, wrt: Vec::new() });
            self.built.gradients.len() - 1
        });
        let mut values = Vec::with_capacity(wrt.len());
        for (i, site) in wrt.iter().enumerate() {
            let at = if listed { format!("{}/wrt/{i}", node.at) } else { format!("{}/wrt", node.at) };
            values.push(self.wrt(number, of, site, &at)?);
        }
        Ok(match listed {
            true => Gradients::Listed { at: format!("{}/wrt", node.at), values, stacked: None },
            false => Gradients::One(values[0]),
        })
    }

    /// The gradients of a node of the list, or one of them by its number.
    pub(super) fn gradient_output(&mut self, gradients: &mut Gradients, part: Option<&str>) -> Result<ValueId> {
        let (at, values, stacked) = match gradients {
            Gradients::One(value) => return Ok(*value),
            Gradients::Listed { at, values, stacked } => (at, values, stacked),
        };
        match (part, &stacked) {
            (None, Some(stacked)) => Ok(*stacked),
            (None, None) => {
                let value = self
                    .stack(at, values.clone())
                    .map_err(|problem| problem.hint("they differ in shape: name one, as `$id.0`"))?;
                *stacked = Some(value);
                Ok(value)
            }
            (Some(part), _) => part.parse().ok().and_then(|part: usize| values.get(part).copied()).ok_or_else(|| {
                let problem = Problem::new(Code::BadArgument, format!("there is no gradient `{part}`"));
                problem.hint(format!("they are numbered 0 to {}", values.len() - 1))
            }),
        }
    }

    fn wrt(&mut self, gradient: usize, of: ValueId, site: &SiteOperand, at: &str) -> Result<ValueId> {
        let found = select(self.context, site).map_err(|problem| problem.at(at))?;
        let Some(parts) = found.parts else {
            let problem = Problem::new(Code::UnknownSite, "gradients are not taken with respect to `next_token_probs`");
            return Err(problem.hint("take `logits`").at(at));
        };
        let mut values = Vec::with_capacity(parts.len());
        for (site, selection) in parts {
            let wrt = self.built.gradients[gradient].wrt.len();
            let shape = selection.shape().clone();
            let value = self.value(at, shape, DType::F32, Source::Grad { gradient, of, wrt })?;
            self.access(at, site, found.input, Accessed::Grad(gradient, wrt))?;
            self.built.gradients[gradient].wrt.push(Wrt { input: found.input, site, selection, value });
            values.push(value);
        }
        if found.stacked { self.stack(at, values) } else { Ok(values[0]) }
    }
}

/// From every gradient's sites a way has to lead to its number on which everything has a derivative.
///
/// # Errors
/// Code `no_gradient`: no way leads there, or only such as pass through an operation without a derivative.
pub(super) fn check(built: &Built) -> Result<()> {
    let streams = Streams::of(built);
    for (number, gradient) in built.gradients.iter().enumerate() {
        let ways = Ways::find(built, &streams, gradient.of)?;
        for place in &streams.gradients[number] {
            let access = &built.accesses[*place];
            let Accessed::Grad(_, wrt) = access.what else { continue };
            if *place < ways.followed[access.input] {
                continue;
            }
            let at = &built.values[gradient.wrt[wrt].value].at;
            let detail = format!("the number does not depend on `{}` in a way that has a derivative", access.site);
            let problem = Problem::new(Code::NoGradient, detail).at(at);
            return Err(match ways.blocked {
                Some(op) => problem.hint(format!("`{op}` has no derivative, or one that is 0 everywhere")),
                None => problem.hint("it is made of sites that come before this one, or of other inputs"),
            });
        }
    }
    Ok(())
}

/// What happens to each input's stream, by the places of the accesses.
struct Streams {
    /// Of every input the values that are put into its stream, in order.
    written: Vec<Vec<(usize, ValueId)>>,
    /// Of every value that is read where that happens.
    reads: HashMap<ValueId, usize>,
    /// Of every gradient where its sites are.
    gradients: Vec<Vec<usize>>,
}

impl Streams {
    fn of(built: &Built) -> Self {
        let inputs = built.accesses.iter().map(|access| access.input + 1).max().unwrap_or(0);
        let mut written = vec![Vec::new(); inputs];
        let mut reads = HashMap::new();
        let mut gradients = vec![Vec::new(); built.gradients.len()];
        for (place, access) in built.accesses.iter().enumerate() {
            match access.what {
                Accessed::Read(id) => drop(reads.insert(id, place)),
                Accessed::Write(write) => written[access.input].push((place, built.writes[write].value)),
                Accessed::Skip(skip) => written[access.input].extend(built.skips[skip].with.map(|with| (place, with))),
                Accessed::Grad(of, _) => gradients[of].push(place),
            }
        }
        Self { written, reads, gradients }
    }
}

/// What a number depends on by ways that have a derivative.
struct Ways<'a> {
    streams: &'a Streams,
    /// For every input the accesses that the number depends on: all before this one.
    followed: Vec<usize>,
    /// For every input how many of the values that are put into its stream were followed.
    entered: Vec<usize>,
    /// An operation that ended a way.
    blocked: Option<&'static str>,
}

impl<'a> Ways<'a> {
    fn find(built: &Built, streams: &'a Streams, of: ValueId) -> Result<Self> {
        let inputs = streams.written.len();
        let mut ways = Self { streams, followed: vec![0; inputs], entered: vec![0; inputs], blocked: None };
        let mut seen = HashSet::new();
        let mut open = vec![of];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let value = &built.values[id];
            match &value.source {
                // whole numbers and truth values have no derivative, whatever they are made of
                Source::Op { spec, .. } if !value.dtype.is_float() => ways.blocked = Some(spec.name),
                Source::Read(read) => ways.follow(read.input, streams.reads.get(&id).copied().unwrap_or(0), &mut open),
                Source::Op { spec, args, .. } if spec.has_derivative() => open.extend(args),
                Source::Op { spec, .. } => ways.blocked = Some(spec.name),
                Source::Grad { .. } => {
                    let problem = Problem::new(Code::NoGradient, "gradients of gradients are not taken");
                    return Err(problem
                        .at(&built.values[id].at)
                        .hint("pass the inner gradient through `detach`, or save it"));
                }
                _ => open.extend(built.values[id].args()),
            }
        }
        Ok(ways)
    }

    /// A read depends on its input's stream before it, and on what was written there.
    fn follow(&mut self, input: usize, place: usize, open: &mut Vec<ValueId>) {
        self.followed[input] = self.followed[input].max(place);
        let written = &self.streams.written[input][self.entered[input]..];
        let entering = written.iter().take_while(|(at, _)| *at < place);
        open.extend(entering.map(|(_, value)| *value));
        self.entered[input] += written.iter().take_while(|(at, _)| *at < place).count();
    }
}
