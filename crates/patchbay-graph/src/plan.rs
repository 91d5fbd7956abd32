//! A graph as it was understood: every value with its shape, every access with its place in the forward pass.

use std::sync::Arc;

use crate::dtype::DType;
use crate::literal::Literal;
use crate::module::Module;
use crate::ops::{Attr, OpSpec};
use crate::selection::Selection;
use crate::shape::Shape;
use crate::site::{LayerSite, Packing, Site};
use crate::tree::Tree;
use crate::weight::Weight;

/// Number of a value in [`Plan::values`].
pub type ValueId = usize;

/// A checked graph. A plan that exists can run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The inputs.
    pub inputs: Vec<PlanInput>,
    /// Every value, arguments before what is made of them.
    pub values: Vec<Value>,
    /// Every write.
    pub writes: Vec<Write>,
    /// Blocks that do not run.
    pub skips: Vec<Skip>,
    /// Every gradient.
    pub gradients: Vec<Gradient>,
    /// Values to make before any pass, in this order.
    pub prologue: Vec<ValueId>,
    /// The passes, in order.
    pub passes: Vec<Pass>,
    /// What is returned.
    pub results: Vec<Returned>,
    /// What is kept in the caller's store, by name.
    pub kept: Vec<(String, ValueId)>,
    /// Nodes of edits that touch nothing: nothing that is read comes after them, or they act at other steps.
    pub idle: Vec<usize>,
    /// What it costs.
    pub cost: Cost,
}

/// An input of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanInput {
    /// Its name.
    pub name: String,
    /// Number of tokens of each row.
    pub lengths: Vec<usize>,
    /// Number of tokens that came before them in earlier passes, row by row.
    pub past: Vec<usize>,
}

impl PlanInput {
    /// How many keys the last token of a row looks on.
    pub fn keys(&self, row: usize) -> usize {
        self.past.get(row).copied().unwrap_or(0) + self.lengths[row]
    }
}

/// A value: its type, its shape, and how it is made.
#[derive(Clone, Debug)]
pub struct Value {
    /// JSON pointer to where it stands.
    pub at: String,
    /// Its shape.
    pub shape: Shape,
    /// Its type.
    pub dtype: DType,
    /// A plain number, which takes the type of what it is combined with.
    pub weak: bool,
    /// How it is made.
    pub source: Source,
}

/// How a value is made.
#[derive(Clone, Debug)]
pub enum Source {
    /// It came with the request.
    Literal(Literal),
    /// It is in the caller's store.
    Stored {
        /// Name in the store.
        name: String,
        /// Which of several.
        key: Option<String>,
    },
    /// It is read from a running pass.
    Read(Read),
    /// Part of another value.
    Index {
        /// The value.
        of: ValueId,
        /// Which part.
        selection: Selection,
    },
    /// Several values of one shape, stacked on a new first axis.
    Stack(Vec<ValueId>),
    /// A tensor operation.
    Op {
        /// Which.
        spec: &'static OpSpec,
        /// Its values, in the table's order.
        args: Vec<ValueId>,
        /// The parameter that each of them fills.
        params: Vec<&'static str>,
        /// Its other arguments.
        attrs: Arc<[(&'static str, Attr)]>,
        /// Which of its outputs.
        out: usize,
    },
    /// A module of the model, applied to a value.
    Call {
        /// Which.
        module: Module,
        /// To what.
        of: ValueId,
    },
    /// A gradient, of the shape of the part it is taken with respect to.
    Grad {
        /// Number in [`Plan::gradients`].
        gradient: usize,
        /// The number whose gradient it is.
        of: ValueId,
        /// Number in [`Gradient::wrt`].
        wrt: usize,
    },
    /// A weight of the model.
    Weight(Weight),
    /// `lm_head(ln_final(x))`, with the soft cap or scale if `transform`.
    Project {
        /// The hidden states.
        of: ValueId,
        /// Whether the soft cap or scale is added.
        transform: bool,
    },
}

/// A read of a site.
#[derive(Clone, Debug)]
pub struct Read {
    /// Of which input.
    pub input: usize,
    /// Where.
    pub site: Site,
    /// Which part.
    pub selection: Selection,
}

/// A write to a site.
#[derive(Clone, Debug)]
pub struct Write {
    /// JSON pointer to the node.
    pub at: String,
    /// Number of the node in the request's list.
    pub node: usize,
    /// To which input.
    pub input: usize,
    /// Where.
    pub site: Site,
    /// Which part.
    pub selection: Selection,
    /// What is written; it broadcasts to the part's shape.
    pub value: ValueId,
    /// Whether the value replaces what is there or is added to it.
    pub mode: WriteMode,
}

/// What a write does with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// The value replaces it.
    Replace,
    /// The value is added to the part as it stood, once: where a part names one place twice, the last sum counts, as in
    /// PyTorch's `x[:, [0, 0]] += v`.
    Add,
}

/// Blocks of one input that do not run.
#[derive(Clone, Debug)]
pub struct Skip {
    /// JSON pointer to the node.
    pub at: String,
    /// Number of the node in the request's list.
    pub node: usize,
    /// Which input.
    pub input: usize,
    /// First block.
    pub first: usize,
    /// Last block, inclusive.
    pub last: usize,
    /// Their output; the first one's input where there is none.
    pub with: Option<ValueId>,
}

/// Gradients of one number.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// JSON pointer to the first node that asks for one.
    pub at: String,
    /// The number.
    pub of: ValueId,
    /// With respect to what.
    pub wrt: Vec<Wrt>,
}

/// A part of a site with respect to which a gradient is taken.
#[derive(Clone, Debug)]
pub struct Wrt {
    /// Of which input.
    pub input: usize,
    /// Where.
    pub site: Site,
    /// Which part.
    pub selection: Selection,
    /// The gradient.
    pub value: ValueId,
}

/// One walk through the layers, for some of the inputs.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// The inputs that take part.
    pub inputs: Vec<PassInput>,
    /// What happens, in the order of the forward pass.
    pub steps: Vec<Step>,
    /// The gradients taken when it has ended, by their numbers.
    pub gradients: Vec<usize>,
    /// Values to make of them, in this order.
    pub after: Vec<ValueId>,
    /// The token ids whose logits are made, in ascending order, where the steps look at few; all where nothing stands here.
    pub vocab: Option<Arc<[u32]>>,
}

/// An input's part in a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct PassInput {
    /// Number of the input.
    pub input: usize,
    /// The last site it has to reach.
    pub until: Site,
    /// Whether it is finished with this pass; if not, it runs again in a later one, with more known.
    pub finished: bool,
    /// Tokens of each row that are looked at from the final norm on.
    pub final_tokens: Vec<Vec<usize>>,
    /// Those of them that are looked at from the unembedding on.
    pub unembedded: Vec<Vec<usize>>,
}

/// Something that happens at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub site: Site,
    /// What.
    pub event: Event,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A value is read from the site.
    Read(ValueId),
    /// A value is computed from others, all known.
    Compute(ValueId),
    /// The site is written.
    Write(usize),
    /// A gradient is taken with respect to the site as it is now.
    Grad {
        /// Number in [`Plan::gradients`].
        gradient: usize,
        /// Number in [`Gradient::wrt`].
        wrt: usize,
    },
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: ValueId,
    /// How many of the likeliest tokens, where the value is logits and only those are wanted.
    pub top_tokens: Option<usize>,
}

/// The price of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes held at the worst moment, weights left out.
    pub peak_bytes: u64,
    /// Bytes of all results.
    pub result_bytes: u64,
    /// Blocks run, over all passes, counted once however many inputs share them.
    pub layers_run: usize,
    /// Tokens times blocks run, over all passes, were nothing shared between rows.
    pub token_layers: usize,
}

impl Cost {
    /// Adds what another job of the same request costs, which runs after it: operations of both, bytes of the one that holds more. What
    /// they return is not the jobs' to say.
    pub(crate) fn and(&mut self, job: &Self) {
        self.flops += job.flops;
        self.peak_bytes = self.peak_bytes.max(job.peak_bytes);
        self.layers_run += job.layers_run;
        self.token_layers += job.token_layers;
    }
}

impl Pass {
    /// Whether the unembedding runs.
    pub fn unembeds(&self) -> bool {
        self.steps.last().is_some_and(|step| step.site >= Site::LmHead)
    }

    /// How a site's packed value lies in memory in this pass, or nothing where the model has no such site.
    pub fn packing(&self, site: Site, tree: &Tree) -> Option<Packing> {
        match (&self.vocab, site) {
            (Some(ids), Site::LmHead | Site::Logits) => Some(Packing::Channels { width: ids.len() }),
            _ => tree.packing(site),
        }
    }
}

impl Value {
    /// The values it is made of.
    pub fn args(&self) -> &[ValueId] {
        match &self.source {
            Source::Literal(_) | Source::Stored { .. } | Source::Weight(_) | Source::Read(_) => &[],
            Source::Index { of, .. }
            | Source::Call { of, .. }
            | Source::Grad { of, .. }
            | Source::Project { of, .. } => std::slice::from_ref(of),
            Source::Stack(args) | Source::Op { args, .. } => args,
        }
    }

    /// Bytes of its dense form.
    pub fn bytes(&self) -> u64 {
        self.shape.elements().unwrap_or(usize::MAX) as u64 * self.dtype.size() as u64
    }
}

impl Plan {
    /// The input whose part at the same place takes the place of what is written, if that is all that a write does.
    pub fn copied(&self, write: &Write) -> Option<usize> {
        match &self.values[write.value].source {
            Source::Read(read) => {
                let same = read.site == write.site && read.selection.names_the_same(&write.selection);
                (same && write.mode == WriteMode::Replace).then_some(read.input)
            }
            _ => None,
        }
    }

    /// How many values are still made of each value; nothing for those that are held to the end, which are the ones that
    /// writes, skips and results take, and all of them where a gradient passes by once more.
    pub fn needed(&self) -> Vec<Option<usize>> {
        if !self.gradients.is_empty() {
            return vec![None; self.values.len()];
        }
        let mut needed = vec![Some(0); self.values.len()];
        self.values.iter().flat_map(Value::args).for_each(|arg| needed[*arg] = needed[*arg].map(|users| users + 1));
        let results = self.results.iter().map(|result| result.value);
        let kept = self.kept.iter().map(|(_, value)| *value);
        let writes = self.writes.iter().map(|write| write.value);
        let skips = self.skips.iter().filter_map(|skip| skip.with);
        results.chain(kept).chain(writes).chain(skips).for_each(|id| needed[id] = None);
        needed
    }

    /// The place of each value that is made for a stack alone: the stack, and its number there. It goes there as soon as it is
    /// made, so that a stack and its parts are not held at once.
    pub fn places_in_stacks(&self) -> Vec<Option<(ValueId, usize)>> {
        let needed = self.needed();
        let mut places = vec![None; self.values.len()];
        for (stack, value) in self.values.iter().enumerate() {
            let Source::Stack(of) = &value.source else { continue };
            for (place, part) in of.iter().enumerate() {
                if needed[*part] == Some(1) && self.values[*part].dtype == DType::F32 && value.dtype == DType::F32 {
                    places[*part] = Some((stack, place));
                }
            }
        }
        places
    }

    /// The blocks that run for an input of a pass.
    pub fn layers_of(&self, input: &PassInput, tree: &Tree) -> impl Iterator<Item = usize> {
        let reached = match input.until {
            Site::EmbedTokens => 0,
            Site::Layer(layer, LayerSite::Input) => layer,
            Site::Layer(layer, _) => layer + 1,
            _ => tree.layers.len(),
        };
        let input = input.input;
        (0..reached).filter(move |layer| self.skip_at(input, *layer).is_none())
    }

    /// The blocks of `input` that do not run, if this one is among them.
    pub fn skip_at(&self, input: usize, layer: usize) -> Option<&Skip> {
        self.skips.iter().find(|skip| skip.input == input && (skip.first..=skip.last).contains(&layer))
    }
}
