//! One request in a wave: carries out the steps of its pass at the sites of the wave.

use std::ops::Range;

use candle_core::{DType, Result, Var};
use patchbay_graph::plan::{Event, Pass, Plan, Skip, Source, Write, WriteMode, Wrt};
use patchbay_graph::selection::{Blocks, Selection};
use patchbay_graph::wave::Wave;
use patchbay_graph::wave::matrix::Matrix;
use patchbay_graph::{Packing, Site, TokenRows, Tree};

use crate::job::{Job, Receipt};
use crate::part::{self, Shown};
use crate::values::Values;

/// A request's pass while it runs.
pub(crate) struct Track<'a, 'v> {
    /// Its number in the wave.
    number: usize,
    plan: &'a Plan,
    /// Whether some of its rows take no part any more.
    ended: bool,
    /// Ids of its rows.
    ids: &'a [Vec<Vec<u32>>],
    tree: &'a Tree,
    pass: &'a Pass,
    pub(crate) values: &'v mut Values<'a>,
    /// Inputs that finish with this pass, whose writes are reported.
    finished: Vec<usize>,
    receipts: Vec<Receipt>,
    /// The gradient that is being taken, if one is.
    taking: Option<usize>,
    deltas: Vec<Delta>,
}

/// A variable that is zero, added to a site: the derivative with respect to it is that with respect to the site.
pub(crate) struct Delta {
    /// Number in the gradient's list.
    pub(crate) wrt: usize,
    pub(crate) variable: Var,
    /// The part that was asked for.
    pub(crate) blocks: Blocks,
}

/// Which logits a request looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logits<'a> {
    any: bool,
    /// Those of these token ids; of all where none are listed.
    pub(crate) of: Option<&'a [u32]>,
}

/// What lies at a site.
#[derive(Clone, Copy)]
pub(crate) struct Here<'w> {
    pub(crate) wave: &'w Wave,
    pub(crate) matrix: &'w Matrix,
    pub(crate) packing: Packing,
}

impl<'a, 'v> Track<'a, 'v> {
    pub(crate) fn new(number: usize, job: &'a Job, tree: &'a Tree, pass: &'a Pass, values: &'v mut Values<'a>) -> Self {
        let (plan, ids, ended) = (&*job.plan, &*job.ids, job.has_ended_rows());
        let finished = pass.inputs.iter().filter(|input| input.finished).map(|input| input.input).collect();
        let (receipts, deltas) = (Vec::new(), Vec::new());
        Self { number, plan, ended, ids, tree, pass, values, finished, receipts, taking: None, deltas }
    }

    /// The same while a gradient is taken: what is written is not reported again.
    pub(crate) fn taking(self, gradient: usize) -> Self {
        Self { taking: Some(gradient), finished: Vec::new(), ..self }
    }

    /// Which steps belong to which site, in their order. Gradients that are not being taken need no visit.
    pub(crate) fn sites(&self) -> Vec<(Site, Range<usize>)> {
        let mut sites: Vec<(Site, Range<usize>)> = Vec::new();
        for (i, step) in self.pass.steps.iter().enumerate() {
            match (step.event, sites.last_mut()) {
                (Event::Grad { gradient, .. }, _) if self.taking != Some(gradient) => {}
                (_, Some((site, range))) if *site == step.site => range.end = i + 1,
                _ => sites.push((step.site, i..i + 1)),
            }
        }
        sites
    }

    pub(crate) fn into_deltas(self) -> Vec<Delta> {
        self.deltas
    }

    pub(crate) fn into_receipts(self) -> Vec<Receipt> {
        self.receipts
    }

    /// Carries out steps at a site whose value is shown.
    pub(crate) fn steps(&mut self, range: Range<usize>, here: Here<'_>, shown: &mut Shown) -> Result<()> {
        for step in &self.pass.steps[range] {
            match step.event {
                Event::Compute(id) => self.values.compute(id)?,
                Event::Read(id) => {
                    let planned = &self.plan.values[id];
                    let Source::Read(read) = &planned.source else {
                        candle_core::bail!("value {id} is not read from a site")
                    };
                    let blocks = self.computed(here, read.input, &read.selection)?;
                    let found = shown.read(&blocks, &planned.shape.dims)?.to_dtype(DType::F32)?;
                    self.values.put(id, found)?;
                }
                Event::Write(write) => self.write(&self.plan.writes[write], here, shown)?,
                Event::Grad { gradient, wrt } if self.taking == Some(gradient) => {
                    self.delta(gradient, wrt, here, shown)?;
                }
                Event::Grad { .. } => {}
            }
        }
        Ok(())
    }

    fn blocks(&self, here: Here<'_>, input: usize, selection: &Selection) -> Blocks {
        let views = here.wave.views(self.number, input);
        here.matrix.blocks(&self.plan.inputs[input], &views, here.packing, selection)
    }

    /// The same for what is read or written, all of which has to be there.
    fn computed(&self, here: Here<'_>, input: usize, selection: &Selection) -> Result<Blocks> {
        let blocks = self.blocks(here, input, selection);
        if self.is_partial(selection) {
            return Ok(blocks);
        }
        let padding = selection.shape().elements().unwrap_or(usize::MAX) as u64 - selection.shape().real_elements();
        let missing = blocks.index.iter().filter(|block| **block == Blocks::PAD).count() * blocks.size;
        if missing as u64 > padding {
            candle_core::bail!("a step looks at a token that the wave did not compute");
        }
        Ok(blocks)
    }

    fn delta(&mut self, gradient: usize, wrt: usize, here: Here<'_>, shown: &mut Shown) -> Result<()> {
        let Wrt { input, selection, .. } = &self.plan.gradients[gradient].wrt[wrt];
        let blocks = self.blocks(here, *input, selection);
        let variable = shown.vary()?;
        self.deltas.push(Delta { wrt, variable, blocks });
        Ok(())
    }

    fn write(&mut self, write: &Write, here: Here<'_>, shown: &mut Shown) -> Result<()> {
        let dims = &write.selection.shape().dims;
        let blocks = self.computed(here, write.input, &write.selection)?;
        let before = shown.read(&blocks, dims)?;
        let given = self.values.get_as(write.value, dims)?.to_dtype(before.dtype())?;
        let after = match write.mode {
            WriteMode::Replace => given,
            WriteMode::Add => (&before + given)?,
        };
        shown.write(&blocks, &after)?;
        if self.finished.contains(&write.input) {
            let norm = part::distance(&before, &after, &blocks)?;
            self.receipts.push(self.receipt(write, here.packing, norm));
        }
        Ok(())
    }

    /// Whether some of a part may not be there, as not all rows have it at this step.
    fn is_partial(&self, selection: &Selection) -> bool {
        self.ended || selection.has_absent()
    }

    fn receipt(&self, write: &Write, packing: Packing, delta_norm: f64) -> Receipt {
        let token_axis = if matches!(packing, Packing::Channels { .. }) { 1 } else { 2 };
        let mut tokens = write.selection.tokens(token_axis);
        tokens.iter_mut().zip(&self.ids[write.input]).for_each(|(row, ids)| row.retain(|token| *token < ids.len()));
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

    /// What its pass asks of a wave, by its number there.
    pub(crate) fn asks(&self) -> (usize, &'a Plan, &'a Pass) {
        (self.number, self.plan, self.pass)
    }

    /// How a site's packed value lies in memory for it.
    pub(crate) fn packing(&self, site: Site) -> Option<Packing> {
        self.pass.packing(site, self.tree)
    }

    /// The logits that it looks at.
    pub(crate) fn logits(&self) -> Logits<'a> {
        Logits { any: self.pass.unembeds(), of: self.pass.vocab.as_deref() }
    }

    /// Skips that begin at a layer and put something in the place of what they leave out.
    pub(crate) fn replacing(&self, layer: usize) -> impl Iterator<Item = &'a Skip> + use<'a> {
        self.plan.skips.iter().filter(move |skip| skip.first == layer && skip.with.is_some())
    }

    /// Puts it there, for all rows of the input.
    pub(crate) fn replace(&self, skip: &Skip, wave: &Wave, matrix: &Matrix, shown: &mut Shown) -> Result<()> {
        let (Some(with), packing) = (skip.with, Packing::Channels { width: self.tree.hidden }) else { return Ok(()) };
        if wave.views(self.number, skip.input).is_empty() {
            return Ok(());
        }
        let all = Selection::all(TokenRows::extents_of(&self.plan.inputs[skip.input].lengths, packing));
        let blocks = self.computed(Here { wave, matrix, packing }, skip.input, &all)?;
        let given = self.values.get_as(with, &all.shape().dims)?;
        shown.write(&blocks, &given)
    }
}
