//! Keys and values that outlive a wave.

use candle_core::{Result, Tensor, bail};
use patchbay_graph::wave::matrix::Matrix;
use patchbay_model::{KeyMemory, Sources};

use crate::job::History;
use crate::part;
use crate::visit::Visit;

/// The histories of a wave's rows, for one block.
pub(crate) struct Kept {
    /// Those that are added to, and the packed rows that are.
    growing: Vec<(History, Vec<u32>)>,
    /// Those that are looked back on, by the number of their source less one.
    sources: Vec<History>,
}

impl Kept {
    /// Of the rows that run through a block, and of those whose histories are looked back on: these rows of the wave.
    pub(crate) fn of(visit: &Visit<'_, '_>, running: &Matrix, sources: &[usize]) -> Self {
        let history = |row: &usize| visit.histories.get(*row).cloned().flatten();
        let growing = visit.wave.rows().zip(&visit.histories).filter_map(|((place, view), history)| {
            let history = history.as_ref().filter(|_| visit.failures[place.0].is_none())?;
            let len = view.own.iter().chain(&view.clean).map(|piece| piece.position + piece.len).max()?;
            // a row whose blocks do not run has no keys there
            let rows: Option<Vec<u32>> = running.tokens_of(view, len).into_iter().collect();
            Some((history.clone(), rows?))
        });
        Self { growing: growing.collect(), sources: sources.iter().filter_map(history).collect() }
    }
}

impl KeyMemory for Kept {
    fn exchange(&mut self, layer: usize, keys: Tensor, values: Tensor) -> Result<Sources> {
        for (history, rows) in &self.growing {
            history.cache().append(layer, [part::rows(&keys, rows)?, part::rows(&values, rows)?])?;
        }
        let mut sources = Sources::of_pass(keys, values);
        for history in &self.sources {
            let cache = history.cache();
            let Some([keys, values]) = cache.layer(layer) else {
                bail!("the keys of the tokens before these were not kept at layer {layer}");
            };
            sources.keys.push(keys.clone());
            sources.values.push(values.clone());
        }
        Ok(sources)
    }
}
