//! Gradients: with respect to what they are taken, and whether there is a way for them.

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
    for (number, gradient) in built.gradients.iter().enumerate() {
        let ways = Ways::find(built, gradient.of)?;
        for (access, reached) in built.accesses.iter().zip(&ways.reached) {
            let Accessed::Grad(of, wrt) = access.what else { continue };
            if of != number || *reached {
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

/// What a number depends on by ways that have a derivative.
struct Ways<'a> {
    built: &'a Built,
    seen: Vec<bool>,
    /// For every access whether the number depends on the site as it is there.
    reached: Vec<bool>,
    /// For every input the accesses that were followed: all before this one.
    followed: Vec<usize>,
    /// An operation that ended a way.
    blocked: Option<&'static str>,
}

impl<'a> Ways<'a> {
    fn find(built: &'a Built, of: ValueId) -> Result<Self> {
        let inputs = built.accesses.iter().map(|access| access.input + 1).max().unwrap_or(0);
        let (seen, reached) = (vec![false; built.values.len()], vec![false; built.accesses.len()]);
        let mut ways = Self { built, seen, reached, followed: vec![0; inputs], blocked: None };
        // where each read stands among the accesses
        let mut places = vec![usize::MAX; built.values.len()];
        for (place, access) in built.accesses.iter().enumerate() {
            if let Accessed::Read(id) = access.what {
                places[id] = place;
            }
        }
        let mut open = vec![of];
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut ways.seen[id], true) {
                continue;
            }
            let value = &built.values[id];
            match &value.source {
                // whole numbers and truth values have no derivative, whatever they are made of
                Source::Op { spec, .. } if !value.dtype.is_float() => ways.blocked = Some(spec.name),
                Source::Read(read) => ways.follow(read.input, places[id], &mut open),
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
        let from = self.followed[input];
        for (i, access) in self.built.accesses.iter().enumerate().take(place).skip(from) {
            if access.input != input {
                continue;
            }
            self.reached[i] = true;
            match access.what {
                Accessed::Write(write) => open.push(self.built.writes[write].value),
                Accessed::Skip(skip) => open.extend(self.built.skips[skip].with),
                Accessed::Read(_) | Accessed::Grad(..) => {}
            }
        }
        self.followed[input] = from.max(place);
    }
}
