//! Keys and values that outlive a wave.

use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use patchbay_graph::wave::matrix::Matrix;
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
    /// Those that are added to, and the packed rows that are.
    growing: Vec<(History, Vec<u32>)>,
    /// Those that are recorded, and the packed rows of their new tokens.
    recorded: Vec<(Recorder, Vec<u32>)>,
    /// Those that are looked back on, by the number of their source less one.
    sources: Vec<Looked>,
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
            let rows: Option<Vec<u32>> = running.tokens_of(view, view.end()?).into_iter().collect();
            Some((history.clone(), rows?))
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

impl KeyMemory for Kept {
    fn exchange(&mut self, layer: usize, keys: Tensor, values: Tensor) -> Result<Sources> {
        for (history, rows) in &self.growing {
            history.cache().append(layer, [part::rows(&keys, rows)?, part::rows(&values, rows)?])?;
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
            let Some([keys, values]) = found else {
                bail!("the keys of the tokens before these were not kept at layer {layer}");
            };
            sources.keys.push(keys);
            sources.values.push(values);
        }
        Ok(sources)
    }
}
