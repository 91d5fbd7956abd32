//! A walk through the layers, stage by stage, priced.

use super::decoder::Through;
use super::meter::{Held, Tensor};
use super::values::Values;
use super::visit::Visitor;
use crate::plan::{Pass, Plan};
use crate::site::{LayerSite, Site};
use crate::stage::Part;
use crate::wave::Wave;
use crate::wave::matrix::Matrix;

/// A pass of a plan.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) plan: &'a Plan,
    pub(super) pass: &'a Pass,
}

/// A part of a walk, and what goes into it.
pub(super) struct Stage {
    pub(super) part: Part,
    pub(super) stream: Option<Tensor>,
    pub(super) matrix: Matrix,
}

/// The angles by which the tokens at hand are rotated: the model keeps the last ones.
#[derive(Default)]
pub(super) struct Angles {
    lanes: Vec<usize>,
    held: Option<Held>,
}

impl<'a> Walk<'a> {
    /// The wave of the pass alone, none of whose rows begins like another.
    pub(super) fn wave(&self, values: &Values<'a>) -> Wave {
        Wave::alone(self.plan, self.pass, values.decoder.tree)
    }

    /// Walks through every part in which something is left to do, and tells `record` what goes into each.
    pub(super) fn run(&self, wave: &Wave, values: &mut Values<'a>, angles: &mut Angles, mut record: impl FnMut(Stage)) {
        let layers = values.decoder.tree.layers.len();
        let mut visitor = Visitor::new(self.pass, values, wave, None);
        let (mut stream, mut matrix) = (None, Matrix::default());
        for part in Part::all(layers) {
            if stream.is_some() && matrix.tokens() == 0 {
                break;
            }
            let stage = Stage { part, stream, matrix };
            (stream, matrix) = self.stage(&mut visitor, angles, &stage, stage.stream.clone());
            record(stage);
        }
    }

    /// One part; gives what goes into the next one.
    pub(super) fn stage(
        &self,
        visitor: &mut Visitor<'a, '_>,
        angles: &mut Angles,
        stage: &Stage,
        stream: Option<Tensor>,
    ) -> (Option<Tensor>, Matrix) {
        let (stream, matrix) = match (stage.part, stream) {
            (Part::Layer(layer), Some(stream)) => self.layer(visitor, angles, stream, &stage.matrix, layer),
            (Part::Unembed, Some(stream)) => {
                self.unembed(visitor, stream, &stage.matrix);
                return (None, Matrix::default());
            }
            _ => {
                let begin = visitor.wave.embedded();
                visitor.place(begin.clone(), begin.clone());
                let decoder = visitor.values.decoder;
                let stream = decoder.embed(begin.tokens() as u64, visitor);
                self.arrive(visitor, 0, stream, &begin)
            }
        };
        (Some(stream), matrix)
    }

    fn layer(
        &self,
        visitor: &mut Visitor<'a, '_>,
        angles: &mut Angles,
        stream: Tensor,
        matrix: &Matrix,
        layer: usize,
    ) -> (Tensor, Matrix) {
        visitor.place(matrix.clone(), matrix.clone());
        let stream = visitor.steps_at(Site::Layer(layer, LayerSite::Input), stream);
        let course = visitor.wave.course(layer, matrix);
        let lanes = [course.onward.lanes(), &course.parked].concat();
        let parked_tokens = Matrix::new(course.parked.clone(), visitor.wave.lanes()).tokens();
        let parked = self.rows(visitor, &stream, parked_tokens);
        let computed = self.block(visitor, angles, &stream, layer, course.running, course.onward);
        let mut stream = match course.parked.is_empty() {
            true => computed,
            false => visitor.values.meter().make(parked.elements + computed.elements, &[&computed, &parked]),
        };
        drop(parked);
        let after = Matrix::new(lanes, visitor.wave.lanes());
        for skip in self.plan.skips.iter().filter(|skip| skip.first == layer) {
            let takes_part = self.pass.inputs.iter().any(|input| input.input == skip.input);
            if takes_part {
                stream = visitor.replace_rows(skip, stream, &after);
            }
        }
        let (stream, matrix) = self.arrive(visitor, layer + 1, stream, &after);
        visitor.place(matrix.clone(), matrix.clone());
        (visitor.steps_at(Site::Layer(layer, LayerSite::Output), stream), matrix)
    }

    /// A block, for the lanes that run through it.
    fn block(
        &self,
        visitor: &mut Visitor<'a, '_>,
        angles: &mut Angles,
        stream: &Tensor,
        layer: usize,
        running: Matrix,
        onward: Matrix,
    ) -> Tensor {
        let x = self.rows(visitor, stream, running.tokens());
        if running.tokens() == 0 {
            return x;
        }
        let (decoder, meter) = (visitor.values.decoder, visitor.values.meter());
        if angles.lanes != onward.lanes() {
            angles.held = Some(meter.hold(decoder.angles(running.tokens() as u64)));
            angles.lanes = onward.lanes().to_vec();
        }
        let lanes = visitor.wave.lanes();
        let segment = |lane: &usize| (lanes[*lane].ids.len(), lanes[*lane].position);
        let segments = onward.lanes().iter().map(segment).collect();
        let through = Through { tokens: running.tokens(), onward: onward.tokens(), segments };
        visitor.place(running, onward);
        decoder.block(layer, x, &through, visitor)
    }

    fn unembed(&self, visitor: &mut Visitor<'a, '_>, stream: Tensor, matrix: &Matrix) {
        if !visitor.has_steps_from(Site::LnFinalInput) {
            return;
        }
        let [rows, onward] = visitor.wave.final_rows([(0, self.plan, self.pass)].into_iter(), matrix);
        visitor.place(matrix.keep(&rows), matrix.keep(&onward));
        let x = self.rows(visitor, &stream, rows.len());
        let decoder = visitor.values.decoder;
        decoder.unembed(x, onward.len() as u64, self.pass.vocab.as_deref(), visitor);
    }

    fn arrive(&self, visitor: &Visitor<'a, '_>, layer: usize, stream: Tensor, after: &Matrix) -> (Tensor, Matrix) {
        // that a lane's stream is there before it joins is a matter of the wave, not of its price
        let Some((matrix, rows)) = visitor.wave.before(layer, after) else { return (stream, after.clone()) };
        let in_place = rows.len() == after.tokens() && (0..).zip(&rows).all(|(place, row)| place == *row);
        match in_place {
            true => (stream, matrix),
            false => {
                let elements = rows.len() as u64 * visitor.values.decoder.hidden();
                (visitor.values.meter().make(elements, &[&stream]), matrix)
            }
        }
    }

    /// So many rows of the residual stream.
    fn rows(&self, visitor: &Visitor<'a, '_>, stream: &Tensor, tokens: usize) -> Tensor {
        let elements = tokens as u64 * visitor.values.decoder.hidden();
        if elements == stream.elements { stream.clone() } else { visitor.values.meter().make(elements, &[stream]) }
    }
}
