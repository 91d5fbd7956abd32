//! Gives every operand its value: its number, shape and type.

use super::build::{Accessed, Builder};
use super::sites::{Target, select};
use crate::dtype::DType;
use crate::index::{Coord, Index, Item};
use crate::literal::Literal;
use crate::module::Module;
use crate::node::Node;
use crate::operand::{Operand, OperandKind, SiteOperand};
use crate::ops::{Attr, Op, OpSpec};
use crate::path::SitePath;
use crate::plan::{Read, Source, Value, ValueId};
use crate::problem::{Code, Problem, Result};
use crate::selection::{Extents, Selection};
use crate::shape::{MAX_RANK, Ragged, Shape};
use crate::site::Site;
use crate::weight::find_weights;

impl Builder<'_> {
    pub(super) fn project(&mut self, node: &Node, value: &Operand, transform: bool) -> Result<ValueId> {
        let (hidden, vocab) = (self.context.tree.hidden, self.context.tree.vocab);
        let at = &value.at;
        let of = self.operand(value)?;
        let Value { shape, dtype, .. } = &self.built.values[of];
        if shape.dims.last() != Some(&hidden) || !dtype.is_float() || shape.is_ragged(shape.rank() - 1) {
            let detail =
                format!("`project_on_vocab` wants hidden states, {hidden} wide; found {dtype} of shape {shape}");
            let problem = Problem::new(Code::ShapeMismatch, detail).at(at);
            return Err(problem.hint("the output of a block, such as `layers.5.output[:, -1]`"));
        }
        let mut shape = shape.clone();
        shape.dims.pop();
        shape.dims.push(vocab);
        self.value(&node.at, shape, DType::F32, Source::Project { of, transform })
    }

    /// The value of an operand.
    pub(super) fn operand(&mut self, operand: &Operand) -> Result<ValueId> {
        let at = &operand.at;
        match &operand.kind {
            OperandKind::Literal(literal) => self.literal(at, literal.clone()),
            OperandKind::Inline(node) => {
                if !node.has_value() {
                    let detail = format!("`{}` has no value and cannot stand inside of another node", node.op());
                    return Err(Problem::new(Code::BadArgument, detail).at(at).hint("make it a node of the list"));
                }
                if let Some(id) = &node.id {
                    let detail = format!("the node written in place cannot have the id `{id}`");
                    return Err(Problem::new(Code::BadArgument, detail)
                        .at(format!("{at}/id"))
                        .hint("make it a node of the list"));
                }
                self.action(node)?.ok_or_else(|| Problem::new(Code::BadArgument, "this node has no value").at(at))
            }
            OperandKind::Node { id, part, index } => {
                let value = self.node_output(id, part.as_deref()).map_err(|problem| problem.at(at))?;
                self.indexed(at, value, index.as_ref())
            }
            OperandKind::Stored { name, key, index } => {
                let (dtype, dims) = self.context.store.describe(name, key.as_deref()).map_err(|p| p.at(at))?;
                let source = Source::Stored { name: name.clone(), key: key.clone() };
                let value = self.value(at, Shape::dense(dims), dtype, source)?;
                self.indexed(at, value, index.as_ref())
            }
            OperandKind::Site(site) => self.read(at, site),
            OperandKind::Weight { path, index } => self.weight(at, path, index.as_ref()),
        }
    }

    fn weight(&mut self, at: &str, path: &SitePath, index: Option<&Index>) -> Result<ValueId> {
        let tree = self.context.tree;
        let (weights, stacked) = find_weights(path, tree).map_err(|problem| problem.at(at))?;
        let mut values = Vec::with_capacity(weights.len());
        for weight in weights {
            let shape = Shape::dense(weight.shape(tree));
            let whole = self.value(at, shape, DType::F32, Source::Weight(weight))?;
            values.push(self.indexed(at, whole, index)?);
        }
        if stacked { self.stack(at, values) } else { Ok(values[0]) }
    }

    /// A module of the model, applied to a value.
    pub(super) fn call(&mut self, node: &Node, module: &str, value: &Operand) -> Result<ValueId> {
        let tree = self.context.tree;
        let module = Module::find(module, tree).map_err(|problem| problem.at(format!("{}/module", node.at)))?;
        let of = self.operand(value)?;
        let Value { shape, dtype, .. } = &self.built.values[of];
        let (shape, dtype) = module.infer(shape, *dtype, tree).map_err(|problem| problem.at(&value.at))?;
        if let (Module::EmbedTokens, Source::Literal(ids)) = (module, &self.built.values[of].source)
            && let Some(id) = ids.data.iter().find(|id| !(0.0..tree.vocab as f64).contains(id))
        {
            let problem = Problem::new(Code::IndexOutOfRange, format!("there is no token {id}")).at(&value.at);
            return Err(problem.hint(format!("the vocabulary has ids 0 to {}", tree.vocab - 1)));
        }
        self.value(&node.at, shape, dtype, Source::Call { module, of })
    }

    fn literal(&mut self, at: &str, literal: Literal) -> Result<ValueId> {
        let weak = literal.weak;
        let id = self.value(at, literal.shape(), literal.dtype, Source::Literal(literal))?;
        self.built.values[id].weak = weak;
        Ok(id)
    }

    fn indexed(&mut self, at: &str, of: ValueId, index: Option<&Index>) -> Result<ValueId> {
        let Some(index) = index else { return Ok(of) };
        let Value { shape, dtype, .. } = &self.built.values[of];
        let dtype = *dtype;
        let selection = Selection::new(index, Extents::of_shape(shape), None).map_err(|problem| problem.at(at))?;
        self.value(at, selection.shape().clone(), dtype, Source::Index { of, selection })
    }

    fn read(&mut self, at: &str, operand: &SiteOperand) -> Result<ValueId> {
        let found = select(self.context, operand).map_err(|problem| problem.at(at))?;
        let input = found.input;
        match found.parts {
            None => self.next_token_probs(at, input, operand.index.as_ref()),
            Some(sites) if found.stacked => {
                let reads: Vec<ValueId> = sites
                    .into_iter()
                    .map(|(site, selection)| self.read_site(at, input, site, selection))
                    .collect::<Result<_>>()?;
                self.stack(at, reads)
            }
            Some(mut sites) => {
                let (site, selection) = sites.remove(0);
                self.read_site(at, input, site, selection)
            }
        }
    }

    fn read_site(&mut self, at: &str, input: usize, site: Site, selection: Selection) -> Result<ValueId> {
        let shape = selection.shape().clone();
        let id = self.value(at, shape, DType::F32, Source::Read(Read { input, site, selection }))?;
        self.access(at, site, input, Accessed::Read(id))?;
        Ok(id)
    }

    pub(super) fn stack(&mut self, at: &str, values: Vec<ValueId>) -> Result<ValueId> {
        let first = &self.built.values[values[0]].shape;
        if let Some(other) = values.iter().map(|id| &self.built.values[*id].shape).find(|shape| *shape != first) {
            let detail = format!("these layers differ in shape, {first} and {other}, and cannot be stacked");
            return Err(Problem::new(Code::ShapeMismatch, detail).at(at).hint("save them one by one"));
        }
        let mut shape = first.clone();
        shape.dims.insert(0, values.len());
        shape.ragged = shape.ragged.map(|ragged| Ragged {
            rows: ragged.rows + 1,
            axes: ragged.axes.into_iter().map(|(axis, lengths)| (axis + 1, lengths)).collect(),
        });
        self.value(at, shape, DType::F32, Source::Stack(values))
    }

    fn next_token_probs(&mut self, at: &str, input: usize, index: Option<&Index>) -> Result<ValueId> {
        let last = Index(vec![Item::ALL, Item::At(Coord::Int(-1))]);
        let target = Target { input, site: Site::Logits };
        let selection = target.select(self.context, Some(&last)).map_err(|problem| problem.at(at))?;
        let logits = self.read_site(at, input, Site::Logits, selection)?;
        let probs = self.op(at, OpSpec::of(Op::Softmax), &[logits], vec![("dim", Attr::Axes(vec![-1]))])?;
        self.indexed(at, probs, index)
    }

    /// Notes a value. What all of them take together is held against the limit at once, so that nothing larger is thought
    /// about.
    pub(super) fn value(&mut self, at: &str, shape: Shape, dtype: DType, source: Source) -> Result<ValueId> {
        let limit = self.context.limits.max_peak_bytes;
        let too_large = |detail: String| {
            Problem::new(Code::TooLarge, detail)
                .hint(
                    "take less, for example with an index such as `[:, -1]`; the server's setting is `max_peak_bytes`",
                )
                .at(at)
        };
        if shape.rank() > MAX_RANK {
            return Err(too_large(format!("a tensor of {} axes; it may have {MAX_RANK}", shape.rank())));
        }
        let bytes = shape.elements().and_then(|elements| (elements as u64).checked_mul(dtype.size() as u64));
        let Some(total) = bytes.and_then(|bytes| self.bytes.checked_add(bytes)).filter(|total| *total <= limit) else {
            return Err(too_large(format!(
                "with this tensor of shape {shape} the graph would hold more than {limit} bytes"
            )));
        };
        self.bytes = total;
        self.built.values.push(Value { at: at.into(), shape, dtype, weak: false, source });
        Ok(self.built.values.len() - 1)
    }
}
