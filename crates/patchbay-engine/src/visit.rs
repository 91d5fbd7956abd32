//! The tap of a wave: has every request carry out its steps at a site.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use candle_core::{Result, Tensor};
use patchbay_graph::wave::Wave;
use patchbay_graph::wave::mark::has_all_rows;
use patchbay_graph::wave::matrix::Matrix;
use patchbay_graph::{LayerSite, Site};
use patchbay_model::Tap;

use crate::engine::{EngineError, panic_message};
use crate::job::History;
use crate::part::Shown;
use crate::prefixes::{Prefix, Recorder};
use crate::track::{Here, Logits, Track};

/// The requests of a wave while it runs.
pub(crate) struct Visit<'a, 'v> {
    pub(crate) wave: Wave,
    pub(crate) tracks: Vec<Track<'a, 'v>>,
    /// What came between a request and its end.
    pub(crate) failures: Vec<Option<EngineError>>,
    /// What came before each row of the wave, and goes on with it.
    pub(crate) histories: Vec<Option<History>>,
    /// Sequences whose keys earlier waves left.
    pub(crate) known: Vec<Arc<Prefix>>,
    /// Rows whose keys this one leaves.
    pub(crate) recorders: Vec<Recorder>,
    /// Who has which steps at a site.
    at: HashMap<Site, Vec<(usize, Range<usize>)>>,
    /// Who is shown the values that come.
    shown_to: Vec<bool>,
    /// Where lanes are at sites that all rows of a block have.
    running: Matrix,
    /// Where they are at the others.
    onward: Matrix,
}

impl<'a, 'v> Visit<'a, 'v> {
    pub(crate) fn new(wave: Wave, tracks: Vec<Track<'a, 'v>>, histories: Vec<Option<History>>) -> Self {
        let mut at: HashMap<Site, Vec<(usize, Range<usize>)>> = HashMap::new();
        for (number, track) in tracks.iter().enumerate() {
            track.sites().into_iter().for_each(|(site, range)| at.entry(site).or_default().push((number, range)));
        }
        let (failures, shown_to) = (tracks.iter().map(|_| None).collect(), vec![true; tracks.len()]);
        let (running, onward) = (Matrix::default(), Matrix::default());
        let (known, recorders) = (Vec::new(), Vec::new());
        Self { wave, tracks, failures, histories, known, recorders, at, shown_to, running, onward }
    }

    /// Says where lanes are in the values that come.
    pub(crate) fn place(&mut self, running: Matrix, onward: Matrix) {
        (self.running, self.onward) = (running, onward);
    }

    /// The requests that look at the same logits, group by group.
    pub(crate) fn by_logits(&self) -> Vec<(Logits<'a>, Vec<usize>)> {
        let mut groups: Vec<(Logits<'a>, Vec<usize>)> = Vec::new();
        for (number, track) in self.tracks.iter().enumerate() {
            match groups.iter_mut().find(|(logits, _)| *logits == track.logits()) {
                Some((_, group)) => group.push(number),
                None => groups.push((track.logits(), vec![number])),
            }
        }
        groups
    }

    /// Shows what comes to these alone.
    pub(crate) fn show_to(&mut self, tracks: &[usize]) {
        self.shown_to.fill(false);
        tracks.iter().for_each(|track| self.shown_to[*track] = true);
    }

    /// Ends a request before its time. What only it needs is not computed any more.
    pub(crate) fn fail(&mut self, track: usize, error: EngineError) {
        self.failures[track] = Some(error);
        self.wave.keep(|track| self.failures[track].is_none());
    }

    /// Whether all requests have ended before their time.
    pub(crate) fn is_over(&self) -> bool {
        self.failures.iter().all(Option::is_some)
    }

    /// Whether somebody has steps at or after a site.
    pub(crate) fn has_steps_from(&self, first: Site) -> bool {
        self.at.keys().any(|site| *site >= first)
    }

    /// Carries out the steps of a site, block boundaries included. `value` is packed, and so is the result.
    pub(crate) fn steps_at(&mut self, site: Site, value: Tensor) -> Result<Tensor> {
        let Some(steps) = self.at.get(&site) else { return Ok(value) };
        let matrix = if has_all_rows(site) { &self.running } else { &self.onward };
        let mut shown = Shown::new(&value)?;
        let mut failed = Vec::new();
        let takes_part = |track: usize| self.shown_to[track] && self.failures[track].is_none();
        for (track, range) in steps.iter().filter(|(track, _)| takes_part(*track)) {
            let Some(packing) = self.tracks[*track].packing(site) else {
                candle_core::bail!("the plan has steps at `{site}`, which this model does not have");
            };
            let here = Here { wave: &self.wave, matrix, packing };
            let steps = AssertUnwindSafe(|| self.tracks[*track].steps(range.clone(), here, &mut shown));
            match catch_unwind(steps) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push((*track, EngineError::from(error))),
                Err(panic) => failed.push((*track, EngineError::Failed(panic_message(&*panic)))),
            }
        }
        failed.into_iter().for_each(|(track, error)| self.fail(track, error));
        Ok(shown.into_value())
    }

    /// Puts what skipped blocks leave in their place, after the first of them.
    pub(crate) fn replace(&mut self, layer: usize, matrix: &Matrix, stream: Tensor) -> Result<Tensor> {
        let tracks = self.tracks.iter().zip(&self.failures).filter(|(_, failure)| failure.is_none());
        let replacing = tracks.flat_map(|(track, _)| track.replacing(layer).map(move |skip| (track, skip)));
        let replacing: Vec<_> = replacing.collect();
        if replacing.is_empty() {
            return Ok(stream);
        }
        let mut shown = Shown::new(&stream)?;
        replacing.into_iter().try_for_each(|(track, skip)| track.replace(skip, &self.wave, matrix, &mut shown))?;
        Ok(shown.into_value())
    }
}

impl Tap for Visit<'_, '_> {
    fn wants(&self, site: Site) -> bool {
        // the walk itself visits the ends of a block: blocks that do not run have them too
        let boundary = matches!(site, Site::Layer(_, LayerSite::Input | LayerSite::Output));
        let steps = self.at.get(&site).filter(|_| !boundary);
        steps.is_some_and(|steps| steps.iter().any(|(track, _)| self.shown_to[*track]))
    }

    fn visit(&mut self, site: Site, value: Tensor) -> Result<Tensor> {
        self.steps_at(site, value)
    }
}
