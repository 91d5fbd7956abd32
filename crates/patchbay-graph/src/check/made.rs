//! Tensor operations and their outputs.

use std::sync::Arc;

use super::build::Builder;
use super::gradients::Gradients;
use crate::node::{Action, Node};
use crate::ops::{Arg, Attr, Attrs, Given, OpSpec, Outputs, Typed};
use crate::plan::{Source, Value, ValueId};
use crate::problem::{Code, Problem, Result};

/// An operation with its arguments, checked; each output becomes a value when something takes it.
pub(super) struct Made {
    at: String,
    spec: &'static OpSpec,
    args: Vec<ValueId>,
    params: Vec<&'static str>,
    attrs: Arc<[(&'static str, Attr)]>,
    /// Shape and type of each output.
    outs: Vec<Typed>,
    /// The output that the node stands for.
    own: usize,
    /// All arguments are plain numbers, and so is the result.
    weak: bool,
    /// The outputs that are values by now.
    values: Vec<Option<ValueId>>,
}

/// A node of the list that may have several outputs, so that none is made before it is known which are wanted.
pub(super) enum Several {
    Made(Made),
    Gradients(Gradients),
}

impl Several {
    /// The node, if it is such a one.
    pub(super) fn make(builder: &mut Builder<'_>, node: &Node) -> Result<Option<Self>> {
        match &node.action {
            Action::Op { spec, .. } if spec.outputs != Outputs::One => builder.made(node).map(Self::Made).map(Some),
            Action::Grad { of, wrt, listed: true } => builder.grad(node, of, wrt, true).map(Self::Gradients).map(Some),
            _ => Ok(None),
        }
    }

    fn output(&mut self, builder: &mut Builder<'_>, part: Option<&str>) -> Result<ValueId> {
        match self {
            Self::Made(made) => builder.output(made, part),
            Self::Gradients(gradients) => builder.gradient_output(gradients, part),
        }
    }

    /// Whether nothing took an output; `used` says it of every value.
    pub(super) fn is_unused(&self, used: &[bool]) -> bool {
        match self {
            Self::Made(made) => made.values.iter().all(Option::is_none),
            Self::Gradients(Gradients::One(value)) => !used[*value],
            Self::Gradients(Gradients::Listed { values, .. }) => !values.iter().any(|value| used[*value]),
        }
    }
}

/// Values as the rules of operations see them.
pub(super) fn arguments<'a>(values: &'a [Value], args: &[ValueId], params: &[&'static str]) -> Vec<Arg<'a>> {
    let arg = |(id, name): (&ValueId, &&'static str)| {
        let value = &values[*id];
        let literal = match &value.source {
            Source::Literal(literal) => Some(literal),
            _ => None,
        };
        Arg { name, shape: &value.shape, dtype: value.dtype, weak: value.weak, literal }
    };
    args.iter().zip(params).map(arg).collect()
}

impl Builder<'_> {
    /// An operation with one output, made of values that fill its first parameters.
    pub(super) fn op(
        &mut self,
        at: &str,
        spec: &'static OpSpec,
        args: &[ValueId],
        attrs: Vec<(&'static str, Attr)>,
    ) -> Result<ValueId> {
        let params = spec.params.iter().map(|param| param.name).take(args.len()).collect();
        let mut made = self.check(at, spec, args.to_vec(), params, attrs)?;
        self.output(&mut made, None)
    }

    /// The operation of a node.
    pub(super) fn made(&mut self, node: &Node) -> Result<Made> {
        let Action::Op { spec, args, attrs, out } = &node.action else {
            return Err(Problem::new(Code::BadArgument, "this node is no tensor operation").at(&node.at));
        };
        let ids = args.iter().map(|(_, arg)| self.operand(arg)).collect::<Result<_>>()?;
        let params = args.iter().map(|(name, _)| *name).collect();
        let mut made = self.check(&node.at, spec, ids, params, attrs.clone()).map_err(|problem| {
            // a rule names the parameter; what fills it stands elsewhere
            let culprit = args.iter().find(|(name, _)| problem.pointer == format!("{}/{name}", node.at));
            match culprit {
                Some((_, arg)) => problem.at(&arg.at),
                None => problem,
            }
        })?;
        if let Some(out) = out {
            made.own = spec.output(out, made.outs.len()).map_err(|problem| problem.at(format!("{}/out", node.at)))?;
        }
        Ok(made)
    }

    fn check(
        &self,
        at: &str,
        spec: &'static OpSpec,
        args: Vec<ValueId>,
        params: Vec<&'static str>,
        attrs: Vec<(&'static str, Attr)>,
    ) -> Result<Made> {
        let shapes = arguments(&self.built.values, &args, &params);
        let given = Given { spec, args: &shapes, attrs: Attrs(&attrs) };
        let outs = spec.infer(&given).map_err(|problem| {
            let pointer = format!("{at}{}", problem.pointer);
            problem.at(pointer)
        })?;
        let limit = self.context.limits.max_peak_bytes;
        let scratch = outs.first().map_or(0, |(shape, _)| spec.cost(&given, shape).1);
        if scratch > limit {
            let detail = format!("on the way `{}` would hold {scratch} bytes, the limit is {limit}", spec.name);
            return Err(Problem::new(Code::TooLarge, detail)
                .hint("take less, or multiply in several steps; the server's setting is `max_peak_bytes`")
                .at(at));
        }
        let weak = !shapes.is_empty() && shapes.iter().all(|arg| arg.weak);
        let values = vec![None; outs.len()];
        Ok(Made { at: at.into(), spec, args, params, attrs: attrs.into(), outs, own: 0, weak, values })
    }

    /// The value of an output, its own one if not said.
    pub(super) fn output(&mut self, made: &mut Made, out: Option<&str>) -> Result<ValueId> {
        let out = match out {
            None => made.own,
            Some(out) => made.spec.output(out, made.outs.len())?,
        };
        if let Some(value) = made.values[out] {
            return Ok(value);
        }
        let (shape, dtype) = made.outs[out].clone();
        let Made { spec, args, params, attrs, .. } = &*made;
        let source = Source::Op { spec, args: args.clone(), params: params.clone(), attrs: Arc::clone(attrs), out };
        let value = self.value(&made.at, shape, dtype, source)?;
        self.built.values[value].weak = made.weak;
        made.values[out] = Some(value);
        Ok(value)
    }

    /// The value of a node of the list, or of one of its outputs.
    pub(super) fn node_output(&mut self, id: &str, part: Option<&str>) -> Result<ValueId> {
        let node = self.ids.get(id).copied();
        if let Some(node) = node
            && let Some(mut several) = self.several.remove(&node)
        {
            let value = several.output(self, part);
            self.several.insert(node, several);
            return value;
        }
        let value = node.and_then(|node| self.done[node].flatten()).ok_or_else(|| {
            Problem::new(Code::BadArgument, format!("the node `{id}` has no value"))
                .hint("read the site that it writes")
        })?;
        match part {
            None => Ok(value),
            Some(part) => Err(Problem::new(Code::BadArgument, format!("the node `{id}` has no output `{part}`"))
                .hint(format!("it has one output: write `${id}`"))),
        }
    }
}
