//! Keys and values that outlive a wave.

use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Error, Result, Tensor};
use patchbay_graph::wave::lanes::View;
use patchbay_graph::wave::matrix::Matrix;
use patchbay_graph::wave::recall::Recalled;
use patchbay_model::{KeyMemory, Sources};

use crate::job::History;
use crate::part;
use crate::prefixes::{Prefix, Recorder};
use crate::visit::Visit;

/// Where keys lie that a wave did not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Those of the tokens that earlier passes of a row of the wave computed.
    Past(usize),
    /// Those of a known sequence.
    Known(usize),
}

/// The keys and values of a wave's rows that outlive it, for one block.
pub(crate) struct Kept {
    /// Those that are added to, and what is.
    growing: Vec<(History, Vec<Run>)>,
    /// Those that are recorded, and the packed rows of their new tokens.
    recorded: Vec<(Recorder, Vec<u32>)>,
    /// Those that are looked back on, by the number of their source less one.
    sources: Vec<Looked>,
}

/// Neighbouring tokens of a row, by where their keys lie.
enum Run {
    /// In these packed rows.
    Made(Vec<u32>),
    /// In a known sequence, at their positions.
    Known(Arc<Prefix>, Recalled),
}

/// Something that is looked back on.
enum Looked {
    History(History),
    Prefix(Arc<Prefix>),
}

impl Kept {
    /// Of the rows that run through a block, and of what is looked back on.
    pub(crate) fn of(visit: &Visit<'_, '_>, running: &Matrix, sources: &[Source]) -> Self {
        let growing = visit.wave.rows().zip(&visit.histories).filter_map(|((place, view), history)| {
            let history = history.as_ref().filter(|_| visit.failures[place.0].is_none())?;
            // a row whose blocks do not run has no keys there
            Some((history.clone(), runs(view, running, &visit.known)?))
        });
        let recorded = visit.recorders.iter().filter_map(|recorder| {
            let recording = recorder.borrow();
            let view = visit.wave.view(recording.row);
            let tokens = running.tokens_of(view, view.end()?);
            let rows: Option<Vec<u32>> = tokens.get(recording.new_tokens())?.iter().copied().collect();
            Some((Rc::clone(recorder), rows?))
        });
        let looked = |source: &Source| match source {
            Source::Past(row) => visit.histories.get(*row).cloned().flatten().map(Looked::History),
            Source::Known(number) => visit.known.get(*number).cloned().map(Looked::Prefix),
        };
        let (growing, recorded) = (growing.collect(), recorded.collect());
        Self { growing, recorded, sources: sources.iter().filter_map(looked).collect() }
    }
}

/// The tokens of a row, all of which have keys in a block.
fn runs(view: &View, running: &Matrix, known: &[Arc<Prefix>]) -> Option<Vec<Run>> {
    let tokens = running.tokens_of(view, view.end()?);
    let (mut runs, mut first) = (Vec::new(), 0);
    let made = |rows: &[Option<u32>]| rows.iter().copied().collect::<Option<Vec<u32>>>().map(Run::Made);
    for recalled in &view.recalled {
        if first < recalled.position {
            runs.push(made(&tokens[first..recalled.position])?);
        }
        runs.push(Run::Known(Arc::clone(known.get(recalled.known)?), *recalled));
        first = recalled.position + recalled.len;
    }
    if first < tokens.len() {
        runs.push(made(&tokens[first..])?);
    }
    Some(runs)
}

impl Run {
    /// Keys and values at a layer, where those of the pass are `made`.
    fn rows(&self, layer: usize, made: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        let [keys, values] = match self {
            Self::Made(rows) => made.map(|tensor| part::rows(tensor, rows)),
            Self::Known(prefix, recalled) => {
                let there = prefix.layer(layer).ok_or_else(|| missing(layer))?;
                there.each_ref().map(|tensor| tensor.narrow(0, recalled.position, recalled.len))
            }
        };
        Ok([keys?, values?])
    }
}

fn missing(layer: usize) -> Error {
    Error::msg(format!("the keys of the tokens before these were not kept at layer {layer}"))
}

impl KeyMemory for Kept {
    fn exchange(&mut self, layer: usize, keys: Tensor, values: Tensor) -> Result<Sources> {
        for (history, runs) in &self.growing {
            let new = runs.iter().map(|run| run.rows(layer, [&keys, &values])).collect::<Result<Vec<_>>>()?;
            history.cache().append(layer, &new)?;
        }
        for (recorder, rows) in &self.recorded {
            recorder.borrow_mut().add(layer, [part::rows(&keys, rows)?, part::rows(&values, rows)?])?;
        }
        let mut sources = Sources::of_pass(keys, values);
        for looked in &self.sources {
            let found = match looked {
                Looked::History(history) => history.cache().layer(layer).cloned(),
                Looked::Prefix(prefix) => prefix.layer(layer).cloned(),
            };
            let [keys, values] = found.ok_or_else(|| missing(layer))?;
            sources.keys.push(keys);
            sources.values.push(values);
        }
        Ok(sources)
    }
}
