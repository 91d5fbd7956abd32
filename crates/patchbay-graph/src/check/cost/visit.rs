//! The steps of a plan at the sites of a running pass, priced.

use std::collections::HashMap;
use std::ops::Range;

use super::decoder::Tap;
use super::meter::Tensor;
use super::values::{Values, elements, read, write};
use crate::plan::{Event, Pass, Plan, Skip, Source, WriteMode, Wrt};
use crate::selection::{Gather, Placement, Selection};
use crate::site::{LayerSite, Packing, Site};
use crate::wave::Wave;
use crate::wave::mark::has_all_rows;
use crate::wave::matrix::{Matrix, packed};

/// The tap of one pass.
pub(super) struct Visitor<'a, 'v> {
    plan: &'a Plan,
    pass: &'a Pass,
    at: HashMap<Site, Range<usize>>,
    /// Whether there are steps inside of each block, its ends left out.
    looked_at: Vec<bool>,
    pub(super) values: &'v mut Values<'a>,
    finished: Vec<usize>,
    /// The gradient that is being taken, if one is.
    taking: Option<usize>,
    /// Variables added to sites, with what they are for.
    pub(super) deltas: Vec<(usize, Tensor, Gather)>,
    pub(super) wave: &'v Wave,
    /// Where lanes are at sites that all rows of a block have, and where at the others.
    running: Matrix,
    onward: Matrix,
    /// Where the rows of inputs lie packed, as far as that was asked for.
    placements: Vec<(usize, Packing, Placement)>,
}

impl<'a, 'v> Visitor<'a, 'v> {
    pub(super) fn new(pass: &'a Pass, values: &'v mut Values<'a>, wave: &'v Wave, taking: Option<usize>) -> Self {
        let finished = pass.inputs.iter().filter(|input| input.finished && taking.is_none());
        let finished = finished.map(|input| input.input).collect();
        let mut at: HashMap<Site, Range<usize>> = HashMap::new();
        for (i, step) in pass.steps.iter().enumerate() {
            match step.event {
                Event::Grad { gradient, .. } if taking != Some(gradient) => {}
                _ => at.entry(step.site).or_insert(i..i).end = i + 1,
            }
        }
        let mut looked_at = vec![false; values.decoder.tree.layers.len()];
        for site in at.keys().filter(|site| !is_boundary(**site)) {
            if let Site::Layer(layer, _) = site {
                looked_at[*layer] = true;
            }
        }
        Self {
            plan: values.plan,
            pass,
            at,
            looked_at,
            values,
            finished,
            taking,
            deltas: Vec::new(),
            wave,
            running: Matrix::default(),
            onward: Matrix::default(),
            placements: Vec::new(),
        }
    }

    /// Says where lanes are in the values that come.
    pub(super) fn place(&mut self, running: Matrix, onward: Matrix) {
        (self.running, self.onward) = (running, onward);
    }

    /// Whether there are steps at or after a site.
    pub(super) fn has_steps_from(&self, first: Site) -> bool {
        self.at.keys().any(|site| *site >= first)
    }

    /// The blocks that a part of a site means.
    fn gather(&mut self, site: Site, input: usize, packing: Packing, selection: &Selection) -> Gather {
        let known = self.placements.iter().position(|(of, like, _)| (*of, *like) == (input, packing));
        let known = known.unwrap_or_else(|| {
            self.placements.push((input, packing, packed(&self.plan.inputs[input], packing)));
            self.placements.len() - 1
        });
        let matrix = if has_all_rows(site) { &self.running } else { &self.onward };
        matrix.gather(&self.placements[known].2, packing, selection)
    }

    pub(super) fn steps_at(&mut self, site: Site, mut value: Tensor) -> Tensor {
        let Some(range) = self.at.get(&site).cloned() else { return value };
        let Some(packing) = self.pass.packing(site, self.values.decoder.tree) else { return value };
        let meter = self.values.meter();
        value = meter.contiguous(&value);
        // whether the value's memory is nobody else's, so that it is written in place
        let mut own = false;
        for step in &self.pass.steps[range] {
            match step.event {
                Event::Compute(id) => self.values.compute(id),
                Event::Read(id) => {
                    if let Source::Read(found) = &self.plan.values[id].source {
                        let gather = self.gather(site, found.input, packing, &found.selection);
                        own &= !gather.whole;
                        let found = read(meter, &value, gather, self.values.elements(id));
                        self.values.put(id, found);
                    }
                }
                Event::Write(number) => value = self.write((site, number), packing, value, &mut own),
                Event::Grad { gradient, wrt } if self.taking == Some(gradient) => {
                    let Wrt { input, selection, .. } = &self.plan.gradients[gradient].wrt[wrt];
                    let variable = meter.variable(value.elements);
                    value = meter.make(value.elements, &[&value, &variable]);
                    let gather = self.gather(site, *input, packing, selection);
                    self.deltas.push((wrt, variable, gather));
                }
                Event::Grad { .. } => {}
            }
        }
        value
    }

    fn write(&mut self, (site, number): (Site, usize), packing: Packing, value: Tensor, own: &mut bool) -> Tensor {
        let (planned, meter) = (&self.plan.writes[number], self.values.meter());
        let n = elements(planned.selection.shape());
        let gather = self.gather(site, planned.input, packing, &planned.selection);
        let before = read(meter, &value, gather, n);
        let given = self.values.get_as(planned.value, n);
        let after = match planned.mode {
            WriteMode::Replace => given,
            WriteMode::Add => meter.make(n, &[&before, &given]),
        };
        if self.finished.contains(&planned.input) {
            // both are compared element by element
            drop(meter.hold(2 * 4 * n));
        }
        if gather.whole || self.taking.is_some() || self.values.decoder.kernels.plain {
            *own = false;
            return write(meter, &value, gather, &after);
        }
        let copied = if *own { value } else { meter.make(value.elements, &[&value]) };
        *own = true;
        copied
    }

    /// The residual stream with the rows of one input replaced.
    pub(super) fn replace_rows(&mut self, skip: &Skip, stream: Tensor, after: &Matrix) -> Tensor {
        let Some(with) = skip.with else { return stream };
        let packing = Packing::Channels { width: self.values.decoder.tree.hidden };
        let rows = crate::context::TokenRows::extents_of(&self.plan.inputs[skip.input].lengths, packing);
        let all = Selection::all(rows);
        let gather = after.gather(&packed(&self.plan.inputs[skip.input], packing), packing, &all);
        let given = self.values.get_as(with, elements(all.shape()));
        write(self.values.meter(), &stream, gather, &given)
    }
}

/// Whether it is an end of a block, which the walk itself visits.
fn is_boundary(site: Site) -> bool {
    matches!(site, Site::Layer(_, LayerSite::Input | LayerSite::Output))
}

impl Tap for Visitor<'_, '_> {
    fn wants(&self, site: Site) -> bool {
        !is_boundary(site) && self.at.contains_key(&site)
    }

    fn wants_of(&self, layer: usize) -> bool {
        self.looked_at[layer]
    }

    fn visit(&mut self, site: Site, value: Tensor) -> Tensor {
        self.steps_at(site, value)
    }
}
