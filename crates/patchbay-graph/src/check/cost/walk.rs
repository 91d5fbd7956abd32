//! A pass, stage by stage, priced.

use super::meter::{Held, Tensor};
use super::values::Values;
use super::visit::Visitor;
use crate::layout::{Layout, PackedRow};
use crate::plan::{Pass, PassInput, Plan};
use crate::site::{LayerSite, Site};
use crate::stage::Part;

/// A pass of a plan.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) plan: &'a Plan,
    pub(super) pass: &'a Pass,
}

/// A part of a pass, and what goes into it.
pub(super) struct Stage {
    pub(super) part: Part,
    pub(super) stream: Option<Tensor>,
    pub(super) layout: Layout,
}

/// The angles by which the tokens at hand are rotated: the model keeps the last ones.
#[derive(Default)]
pub(super) struct Angles {
    lengths: Vec<usize>,
    held: Option<Held>,
}

impl<'a> Walk<'a> {
    /// Walks through every part that has something to do, and tells `record` what goes into each.
    pub(super) fn run(&self, values: &mut Values<'a>, angles: &mut Angles, mut record: impl FnMut(Stage)) {
        let layout = Layout::of_inputs(&self.plan.inputs, self.pass.inputs.iter().map(|input| input.input));
        let layers = values.decoder.tree.layers.len();
        let mut visitor = Visitor::new(self.pass, values, layout, None);
        let mut stream = None;
        for part in Part::all(layers) {
            if !visitor.layout().rows().iter().any(|row| self.input(row).until >= part.first_site()) {
                break;
            }
            let stage = Stage { part, stream, layout: visitor.layout().clone() };
            stream = self.stage(&mut visitor, angles, part, stage.stream.clone());
            record(stage);
        }
    }

    /// One part; gives what goes into the next one.
    pub(super) fn stage(
        &self,
        visitor: &mut Visitor<'a, '_>,
        angles: &mut Angles,
        part: Part,
        stream: Option<Tensor>,
    ) -> Option<Tensor> {
        match (part, stream) {
            (Part::Layer(layer), Some(stream)) => Some(self.layer(visitor, angles, stream, layer)),
            (Part::Unembed, Some(stream)) => {
                self.unembed(visitor, stream);
                None
            }
            _ => {
                let tokens = visitor.layout().here() as u64;
                let decoder = visitor.values.decoder;
                Some(decoder.embed(tokens, visitor))
            }
        }
    }

    fn layer(&self, visitor: &mut Visitor<'a, '_>, angles: &mut Angles, stream: Tensor, layer: usize) -> Tensor {
        let stream = self.drop_rows(visitor, stream, Site::Layer(layer, LayerSite::Input));
        let stream = visitor.steps_at(Site::Layer(layer, LayerSite::Input), stream);
        let stream = self.drop_rows(visitor, stream, Site::Layer(layer, LayerSite::AttnInput));
        if visitor.layout().rows().is_empty() {
            return stream;
        }
        let stream = self.block(visitor, angles, stream, layer);
        visitor.steps_at(Site::Layer(layer, LayerSite::Output), stream)
    }

    /// A block, for the rows that do not skip it.
    fn block(&self, visitor: &mut Visitor<'a, '_>, angles: &mut Angles, stream: Tensor, layer: usize) -> Tensor {
        let (active, tokens) = visitor.layout().retain(|row| self.plan.skip_at(row.input, layer).is_none());
        let everything = active.rows().len() == visitor.layout().rows().len();
        let (decoder, meter) = (visitor.values.decoder, visitor.values.meter());
        let mut out = stream.clone();
        if !tokens.is_empty() {
            let (lengths, tokens) = (active.lengths(), tokens.len() as u64);
            if angles.lengths != lengths {
                angles.held = Some(meter.hold(decoder.angles(tokens)));
                angles.lengths.clone_from(&lengths);
            }
            let all = visitor.set_layout(active);
            let x = self.rows(visitor, &stream, tokens);
            let computed = decoder.block(layer, x, &lengths, visitor);
            visitor.set_layout(all);
            out = match everything {
                true => computed,
                false => {
                    let _index = meter.hold(4 * visitor.layout().here() as u64);
                    let both = meter.make(stream.elements + computed.elements, &[&stream, &computed]);
                    meter.make(stream.elements, &[&both])
                }
            };
        }
        for skip in self.plan.skips.iter().filter(|skip| skip.first == layer) {
            if visitor.layout().rows().iter().any(|row| row.input == skip.input) {
                out = visitor.replace_rows(skip, out);
            }
        }
        out
    }

    fn unembed(&self, visitor: &mut Visitor<'a, '_>, stream: Tensor) {
        let stream = self.drop_rows(visitor, stream, Site::LnFinalInput);
        let (layout, tokens) = visitor.layout().keep_tokens(|row| self.input(row).final_tokens[row.row].clone());
        visitor.set_layout(layout);
        let x = self.rows(visitor, &stream, tokens.len() as u64);
        let decoder = visitor.values.decoder;
        decoder.unembed(x, visitor);
    }

    /// Leaves out the rows of inputs that have nothing left to do at `site` or after it.
    fn drop_rows(&self, visitor: &mut Visitor<'a, '_>, stream: Tensor, site: Site) -> Tensor {
        let (layout, tokens) = visitor.layout().retain(|row| self.input(row).until >= site);
        if layout.rows().len() == visitor.layout().rows().len() {
            return stream;
        }
        visitor.set_layout(layout);
        self.rows(visitor, &stream, tokens.len() as u64)
    }

    /// So many rows of the residual stream.
    fn rows(&self, visitor: &Visitor<'a, '_>, stream: &Tensor, tokens: u64) -> Tensor {
        let elements = tokens * visitor.values.decoder.tree.hidden as u64;
        if elements == stream.elements { stream.clone() } else { visitor.values.meter().make(elements, &[stream]) }
    }

    fn input(&self, row: &PackedRow) -> &'a PassInput {
        // every packed row comes from an input of the pass
        let position = self.pass.inputs.iter().position(|input| input.input == row.input).unwrap_or_default();
        &self.pass.inputs[position]
    }
}
