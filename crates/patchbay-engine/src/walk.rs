//! One walk through the layers, in stages that a gradient can be taken back through.

use candle_core::{Result, Tensor};
use patchbay_graph::stage::Part;
use patchbay_graph::wave::lanes::Lane;
use patchbay_graph::wave::matrix::{Keys, Matrix};
use patchbay_graph::{LayerSite, Site};
use patchbay_model::{Decoder, Onward, Outputs, Run, Segment, Segments, Span};

use crate::kept::{Kept, Source};
use crate::part;
use crate::visit::Visit;

/// A part of a walk, and what goes into it.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) part: Part,
    /// The residual stream, packed; nothing goes into the embedding.
    pub(crate) stream: Option<Tensor>,
    /// The lanes that are in the stream.
    pub(crate) matrix: Matrix,
}

/// Walks through every part in which something is left to do. Each is told to `record` with what goes into it, and `look` may
/// end requests before it.
///
/// # Errors
/// The device failed.
pub(crate) fn walk(
    decoder: &Decoder,
    visit: &mut Visit<'_, '_>,
    mut look: impl FnMut(&mut Visit<'_, '_>),
    mut record: impl FnMut(Stage),
) -> Result<()> {
    let (mut stream, mut matrix) = (None, Matrix::default());
    for part in Part::all(decoder.tree().layers.len()) {
        look(visit);
        if visit.is_over() || (stream.is_some() && matrix.tokens() == 0) {
            break;
        }
        let this = Stage { part, stream, matrix };
        (stream, matrix) = stage(decoder, visit, &this)?;
        record(this);
    }
    Ok(())
}

/// One part; gives what goes into the next one.
pub(crate) fn stage(decoder: &Decoder, visit: &mut Visit<'_, '_>, stage: &Stage) -> Result<(Option<Tensor>, Matrix)> {
    let (stream, matrix) = match (stage.part, &stage.stream) {
        (Part::Layer(number), Some(stream)) => layer(decoder, visit, stream.clone(), &stage.matrix, number)?,
        (Part::Unembed, Some(stream)) => {
            unembed(decoder, visit, stream, &stage.matrix)?;
            return Ok((None, Matrix::default()));
        }
        _ => embed(decoder, visit)?,
    };
    Ok((Some(stream), matrix))
}

fn embed(decoder: &Decoder, visit: &mut Visit<'_, '_>) -> Result<(Tensor, Matrix)> {
    let begin = visit.wave.embedded();
    let lanes = visit.wave.lanes();
    let ids: Vec<u32> = begin.lanes().iter().flat_map(|lane| &lanes[*lane].ids).copied().collect();
    let segments = segments(&begin, lanes);
    visit.place(begin.clone(), begin.clone());
    let stream = decoder.embed(&ids, &segments, visit)?;
    arrive(visit, 0, stream, &begin)
}

/// A block and its ends, which blocks that do not run have too.
fn layer(
    decoder: &Decoder,
    visit: &mut Visit<'_, '_>,
    stream: Tensor,
    matrix: &Matrix,
    layer: usize,
) -> Result<(Tensor, Matrix)> {
    visit.place(matrix.clone(), matrix.clone());
    let stream = visit.steps_at(Site::Layer(layer, LayerSite::Input), stream)?;
    let course = visit.wave.course(layer, matrix);
    let parked = matrix.rows_of(&course.parked, visit.wave.lanes());
    let lanes = [course.onward.lanes(), &course.parked].concat();
    let computed = block(decoder, visit, &stream, matrix, layer, course.running, course.onward)?;
    let stream = match parked.as_slice() {
        [] => computed,
        parked => Tensor::cat(&[computed, part::rows(&stream, parked)?], 0)?,
    };
    let after = Matrix::new(lanes, visit.wave.lanes());
    let stream = visit.replace(layer, &after, stream)?;
    let (stream, matrix) = arrive(visit, layer + 1, stream, &after)?;
    visit.place(matrix.clone(), matrix.clone());
    Ok((visit.steps_at(Site::Layer(layer, LayerSite::Output), stream)?, matrix))
}

/// A block, for the lanes that run through it; gives the stream of those that go on.
fn block(
    decoder: &Decoder,
    visit: &mut Visit<'_, '_>,
    stream: &Tensor,
    matrix: &Matrix,
    layer: usize,
    running: Matrix,
    onward: Matrix,
) -> Result<Tensor> {
    let lanes = visit.wave.lanes();
    let x = part::rows(stream, &matrix.rows_of(running.lanes(), lanes))?;
    if running.tokens() == 0 {
        return Ok(x);
    }
    let (going_on, sources) = looking(&running, &onward, lanes)?;
    let mut memory = Kept::of(visit, &running, &sources);
    let all_go_on = running.lanes().len() == onward.lanes().len();
    let (segments, onward_run) = match all_go_on {
        true => (going_on, None),
        false => {
            let rows = running.rows_of(onward.lanes(), lanes);
            (segments(&running, lanes), Some(Onward { rows, segments: going_on }))
        }
    };
    visit.place(running, onward);
    decoder.block(layer, x, &mut Run { segments: &segments, onward: onward_run.as_ref(), memory: &mut memory }, visit)
}

/// The final norm and the unembedding, for the tokens that are looked at there, and for each group of requests that look at the
/// same logits.
fn unembed(decoder: &Decoder, visit: &mut Visit<'_, '_>, stream: &Tensor, matrix: &Matrix) -> Result<()> {
    if !visit.has_steps_from(Site::LnFinalInput) {
        return Ok(());
    }
    for (logits, group) in visit.by_logits() {
        let asking = group.iter().map(|track| visit.tracks[*track].asks());
        let [rows, onward] = visit.wave.final_rows(asking, matrix);
        let place = |row: &u32| rows.binary_search(row).ok().map(|place| place as u32);
        let going_on: Vec<u32> = onward.iter().filter_map(place).collect();
        visit.show_to(&group);
        visit.place(matrix.keep(&rows), matrix.keep(&onward));
        let outputs = Outputs { rows: (going_on.len() < rows.len()).then_some(&going_on), ids: logits.of };
        decoder.unembed(part::rows(stream, &rows)?, outputs, visit)?;
    }
    Ok(())
}

/// The stream before a layer: without those who leave, with those who join.
fn arrive(visit: &Visit<'_, '_>, layer: usize, stream: Tensor, after: &Matrix) -> Result<(Tensor, Matrix)> {
    let Some((matrix, rows)) = visit.wave.before(layer, after) else {
        candle_core::bail!("a lane joins before layer {layer} whose stream was not computed");
    };
    Ok((part::rows(&stream, &rows)?, matrix))
}

/// Lanes as segments, which look on nothing.
fn segments(matrix: &Matrix, lanes: &[Lane]) -> Segments {
    let mut start = 0;
    let segment = |lane: &usize| {
        let Lane { ids, position, length, .. } = &lanes[*lane];
        start += ids.len();
        Segment { start: start - ids.len(), len: ids.len(), position: *position, length: *length, keys: Vec::new() }
    };
    Segments::new(matrix.lanes().iter().map(segment).collect())
}

/// Lanes as segments that look on the keys of others, and on those of earlier passes and waves, the first of which is source 1.
fn looking(running: &Matrix, onward: &Matrix, lanes: &[Lane]) -> Result<(Segments, Vec<Source>)> {
    let (plain, mut sources) = (segments(onward, lanes), Vec::new());
    let mut span = |of: Source, start: usize, len: usize| {
        let known = sources.iter().position(|source| *source == of);
        let source = known.unwrap_or_else(|| {
            sources.push(of);
            sources.len() - 1
        });
        Span { source: source + 1, start, len }
    };
    let looking = plain.iter().zip(onward.lanes()).map(|(segment, number)| {
        let Some(keys) = running.keys(*number, lanes) else {
            candle_core::bail!("a lane looks on keys that were not computed");
        };
        let (past, row) = lanes[*number].past;
        let mut spans: Vec<Span> = row.map(|row| span(Source::Past(row), 0, past)).into_iter().collect();
        spans.extend(keys.into_iter().map(|Keys { known, start, len }| match known {
            Some(known) => span(Source::Known(known), start, len),
            None => Span { source: 0, start, len },
        }));
        Ok(Segment { keys: spans, ..segment.clone() })
    });
    let looking = looking.collect::<Result<_>>()?;
    Ok((Segments::new(looking), sources))
}
