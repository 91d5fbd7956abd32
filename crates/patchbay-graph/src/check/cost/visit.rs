//! The steps of a plan at the sites of a running pass, priced.

use std::collections::HashMap;
use std::ops::Range;

use super::decoder::Tap;
use super::meter::Tensor;
use super::values::{Values, elements, read, write};
use crate::layout::Layout;
use crate::plan::{Event, Pass, Plan, Skip, Source, Step, WriteMode, Wrt};
use crate::selection::{Gather, Placement, Selection};
use crate::site::{LayerSite, Packing, Site};

/// The tap of one pass.
pub(super) struct Visitor<'a, 'v> {
    plan: &'a Plan,
    steps: &'a [Step],
    at: HashMap<Site, Range<usize>>,
    pub(super) values: &'v mut Values<'a>,
    finished: Vec<usize>,
    /// The gradient that is being taken, if one is.
    taking: Option<usize>,
    /// Variables added to sites, with what they are for.
    pub(super) deltas: Vec<(usize, Tensor, Gather)>,
    layout: Layout,
    /// Where inputs lie in the values of sites, as far as that was asked for.
    placements: Vec<(usize, Packing, Placement)>,
}

impl<'a, 'v> Visitor<'a, 'v> {
    pub(super) fn new(pass: &'a Pass, values: &'v mut Values<'a>, layout: Layout, taking: Option<usize>) -> Self {
        let finished = pass.inputs.iter().filter(|input| input.finished && taking.is_none());
        let finished = finished.map(|input| input.input).collect();
        let mut at: HashMap<Site, Range<usize>> = HashMap::new();
        for (i, step) in pass.steps.iter().enumerate() {
            match step.event {
                Event::Grad { gradient, .. } if taking != Some(gradient) => {}
                _ => at.entry(step.site).or_insert(i..i).end = i + 1,
            }
        }
        Self {
            plan: values.plan,
            steps: &pass.steps,
            at,
            values,
            finished,
            taking,
            deltas: Vec::new(),
            layout,
            placements: Vec::new(),
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Sets the rows that are there, and gives those that were.
    pub(super) fn set_layout(&mut self, layout: Layout) -> Layout {
        self.placements.clear();
        std::mem::replace(&mut self.layout, layout)
    }

    /// The blocks that a part of a site means.
    fn gather(&mut self, input: usize, packing: Packing, selection: &Selection) -> Gather {
        let known = self.placements.iter().position(|(of, like, _)| (*of, *like) == (input, packing));
        let known = known.unwrap_or_else(|| {
            self.placements.push((input, packing, self.layout.placement(input, packing)));
            self.placements.len() - 1
        });
        self.layout.gather(&self.placements[known].2, packing, selection)
    }

    pub(super) fn steps_at(&mut self, site: Site, mut value: Tensor) -> Tensor {
        let Some(range) = self.at.get(&site).cloned() else { return value };
        let Some(packing) = self.values.decoder.tree.packing(site) else { return value };
        let meter = self.values.meter();
        value = meter.contiguous(&value);
        for step in &self.steps[range] {
            match step.event {
                Event::Compute(id) => self.values.compute(id),
                Event::Read(id) => {
                    if let Source::Read(found) = &self.plan.values[id].source {
                        let gather = self.gather(found.input, packing, &found.selection);
                        let found = read(meter, &value, gather, self.values.elements(id));
                        self.values.put(id, found);
                    }
                }
                Event::Write(number) => value = self.write(number, packing, value),
                Event::Grad { gradient, wrt } if self.taking == Some(gradient) => {
                    let Wrt { input, selection, .. } = &self.plan.gradients[gradient].wrt[wrt];
                    let variable = meter.variable(value.elements);
                    value = meter.make(value.elements, &[&value, &variable]);
                    let gather = self.gather(*input, packing, selection);
                    self.deltas.push((wrt, variable, gather));
                }
                Event::Grad { .. } => {}
            }
        }
        value
    }

    fn write(&mut self, number: usize, packing: Packing, value: Tensor) -> Tensor {
        let (planned, meter) = (&self.plan.writes[number], self.values.meter());
        let n = elements(planned.selection.shape());
        let gather = self.gather(planned.input, packing, &planned.selection);
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
        write(meter, &value, gather, &after)
    }

    /// The residual stream with the rows of one input replaced.
    pub(super) fn replace_rows(&mut self, skip: &Skip, stream: Tensor) -> Tensor {
        let Some(with) = skip.with else { return stream };
        let packing = Packing::Channels { width: self.values.decoder.tree.hidden };
        let rows = crate::context::TokenRows::extents_of(&self.plan.inputs[skip.input].lengths, packing);
        let all = Selection::all(rows);
        let gather = self.gather(skip.input, packing, &all);
        let given = self.values.get_as(with, elements(all.shape()));
        write(self.values.meter(), &stream, gather, &given)
    }
}

impl Tap for Visitor<'_, '_> {
    fn wants(&self, site: Site) -> bool {
        let boundary = matches!(site, Site::Layer(_, LayerSite::Input | LayerSite::Output));
        !boundary && self.at.contains_key(&site)
    }

    fn visit(&mut self, site: Site, value: Tensor) -> Tensor {
        self.steps_at(site, value)
    }
}
