//! Carries out the steps of a plan at the sites of a running pass.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Result, Tensor, Var};
use patchbay_graph::layout::Layout;
use patchbay_graph::plan::{Event, Pass, Plan, Source, Step, Write, WriteMode, Wrt};
use patchbay_graph::selection::Blocks;
use patchbay_graph::{LayerSite, Packing, Site, Tree};
use patchbay_model::Tap;

use crate::job::Receipt;
use crate::part;
use crate::values::Values;

/// The tap of one pass.
pub(crate) struct Visitor<'a, 'v> {
    plan: &'a Plan,
    tree: &'a Tree,
    steps: &'a [Step],
    /// Which steps belong to a site.
    at: HashMap<Site, Range<usize>>,
    values: &'v mut Values<'a>,
    /// Inputs that finish with this pass, whose writes are reported.
    finished: Vec<usize>,
    receipts: Vec<Receipt>,
    /// The gradient that is being taken, if one is.
    taking: Option<usize>,
    deltas: Vec<Delta>,
    /// Blocks that ran.
    pub(crate) layers_run: usize,
    /// The rows in the matrix at hand.
    pub(crate) layout: Layout,
}

/// A variable that is zero, added to a site: the derivative with respect to it is that with respect to the site.
pub(crate) struct Delta {
    /// Number in the gradient's list.
    pub(crate) wrt: usize,
    pub(crate) variable: Var,
    /// The part that was asked for.
    pub(crate) blocks: Blocks,
}

impl<'a, 'v> Visitor<'a, 'v> {
    pub(crate) fn new(
        plan: &'a Plan,
        tree: &'a Tree,
        pass: &'a Pass,
        values: &'v mut Values<'a>,
        layout: Layout,
    ) -> Self {
        let finished = pass.inputs.iter().filter(|input| input.finished).map(|input| input.input).collect();
        let (at, steps) = (HashMap::new(), &pass.steps[..]);
        let (receipts, deltas) = (Vec::new(), Vec::new());
        let mut visitor =
            Self { plan, tree, steps, at, values, finished, receipts, taking: None, deltas, layers_run: 0, layout };
        visitor.find_steps();
        visitor
    }

    /// The same for a pass that is run again to take a gradient: nothing is reported.
    pub(crate) fn taking(mut self, gradient: usize) -> Self {
        self.taking = Some(gradient);
        self.finished.clear();
        self.find_steps();
        self
    }

    /// Which steps belong to a site. Gradients that are not being taken need no visit.
    fn find_steps(&mut self) {
        self.at.clear();
        for (i, step) in self.steps.iter().enumerate() {
            match step.event {
                Event::Grad { gradient, .. } if self.taking != Some(gradient) => {}
                _ => self.at.entry(step.site).or_insert(i..i).end = i + 1,
            }
        }
    }

    pub(crate) fn into_deltas(self) -> Vec<Delta> {
        self.deltas
    }

    pub(crate) fn into_receipts(self) -> Vec<Receipt> {
        self.receipts
    }

    /// Carries out the steps of a site, block boundaries included. `value` is packed, and so is the result.
    pub(crate) fn steps_at(&mut self, site: Site, mut value: Tensor) -> Result<Tensor> {
        let Some(range) = self.at.get(&site).cloned() else { return Ok(value) };
        let Some(packing) = self.tree.packing(site) else {
            candle_core::bail!("the plan has steps at `{site}`, which this model does not have");
        };
        value = value.contiguous()?;
        for step in &self.steps[range] {
            match step.event {
                Event::Compute(id) => self.values.compute(id)?,
                Event::Read(id) => {
                    let planned = &self.plan.values[id];
                    let Source::Read(read) = &planned.source else {
                        candle_core::bail!("value {id} is not read from a site")
                    };
                    let blocks = self.layout.blocks(read.input, packing, &read.selection);
                    let found = part::read(&value, &blocks, &planned.shape.dims)?.to_dtype(DType::F32)?;
                    self.values.put(id, found);
                }
                Event::Write(write) => value = self.write(&self.plan.writes[write], packing, value)?,
                Event::Grad { gradient, wrt } if self.taking == Some(gradient) => {
                    value = self.delta(gradient, wrt, packing, value)?;
                }
                Event::Grad { .. } => {}
            }
        }
        Ok(value)
    }

    fn delta(&mut self, gradient: usize, wrt: usize, packing: Packing, value: Tensor) -> Result<Tensor> {
        let Wrt { input, selection, .. } = &self.plan.gradients[gradient].wrt[wrt];
        let variable = Var::zeros(value.dims(), value.dtype(), value.device())?;
        let moved = (value + variable.as_tensor())?;
        let blocks = self.layout.blocks(*input, packing, selection);
        self.deltas.push(Delta { wrt, variable, blocks });
        Ok(moved)
    }

    fn write(&mut self, write: &Write, packing: Packing, value: Tensor) -> Result<Tensor> {
        let dims = &write.selection.shape().dims;
        let blocks = self.layout.blocks(write.input, packing, &write.selection);
        let before = part::read(&value, &blocks, dims)?;
        let given = self.values.get_as(write.value, dims)?.to_dtype(value.dtype())?;
        let after = match write.mode {
            WriteMode::Replace => given,
            WriteMode::Add => (&before + given)?,
        };
        if self.finished.contains(&write.input) {
            let receipt = self.receipt(write, packing, part::distance(&before, &after)?);
            self.receipts.push(receipt);
        }
        part::write(&value, &blocks, &after)
    }

    fn receipt(&self, write: &Write, packing: Packing, delta_norm: f64) -> Receipt {
        let token_axis = if matches!(packing, Packing::Channels { .. }) { 1 } else { 2 };
        let tokens = write.selection.tokens(token_axis);
        Receipt {
            node: write.node,
            cell: None,
            site: write.site.to_string(),
            input: self.plan.inputs[write.input].name.clone(),
            rows: tokens.iter().filter(|row| !row.is_empty()).count(),
            positions: tokens.iter().map(Vec::len).sum(),
            delta_norm,
        }
    }

    /// The residual stream with the rows of one input replaced.
    pub(crate) fn replace_rows(&self, skip: &patchbay_graph::plan::Skip, stream: &Tensor) -> Result<Tensor> {
        let Some(with) = skip.with else { return Ok(stream.clone()) };
        let lengths = self.plan.inputs[skip.input].lengths.clone();
        let rows = patchbay_graph::TokenRows::extents_of(&lengths, Packing::Channels { width: self.tree.hidden });
        let all = patchbay_graph::selection::Selection::all(rows);
        let blocks = self.layout.blocks(skip.input, Packing::Channels { width: self.tree.hidden }, &all);
        let given = self.values.get_as(with, &all.shape().dims)?.to_dtype(stream.dtype())?;
        part::write(stream, &blocks, &given)
    }
}

impl Tap for Visitor<'_, '_> {
    fn wants(&self, site: Site) -> bool {
        // the walk itself visits the ends of a block: blocks that do not run have them too
        let boundary = matches!(site, Site::Layer(_, LayerSite::Input | LayerSite::Output));
        !boundary && self.at.contains_key(&site)
    }

    fn visit(&mut self, site: Site, value: Tensor) -> Result<Tensor> {
        self.steps_at(site, value)
    }
}
