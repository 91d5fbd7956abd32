//! Kernels that wait at a gate, so that a test says when a wave goes on, and no clock does.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};
use patchbay_model::kernels::{Cpu, Kernels, Scoring};
use patchbay_model::spec::Activation;
use patchbay_model::{Linear, Norm, RotaryRows, Segments};

/// Every norm passes here; where it is shut, none does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// Norms that may pass although it is shut.
    free: usize,
    /// Norms that came.
    came: usize,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nobody pass until it is opened.
    pub(crate) fn shut(&self) {
        self.state().shut = true;
    }

    /// Lets everybody pass.
    pub(crate) fn open(&self) {
        self.state().shut = false;
        self.0.1.notify_all();
    }

    /// Lets so many pass, and nobody after them.
    pub(crate) fn let_pass(&self, norms: usize) {
        self.state().free = norms;
        self.0.1.notify_all();
    }

    /// Norms that came so far.
    pub(crate) fn came(&self) -> usize {
        self.state().came
    }

    /// Waits until one more than so many norms came: a wave stands at the gate.
    pub(crate) fn wait_beyond(&self, came: usize) {
        let waits = |state: &mut State| state.came <= came;
        drop(self.0.1.wait_while(self.state(), waits).unwrap_or_else(PoisonError::into_inner));
    }

    fn pass(&self) {
        let mut state = self.state();
        state.came += 1;
        self.0.1.notify_all();
        let waits = |state: &mut State| state.shut && state.free == 0;
        let mut state = self.0.1.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.free = state.free.saturating_sub(1);
    }
}

/// The kernels of the processor behind a gate.
#[derive(Debug)]
pub(crate) struct Gated {
    inner: Cpu,
    gate: Gate,
}

impl Gated {
    pub(crate) fn new(gate: &Gate) -> Arc<Self> {
        Arc::new(Self { inner: Cpu::new(), gate: gate.clone() })
    }
}

impl Kernels for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn linear(&self, x: &Tensor, projections: &[&Linear]) -> Result<Vec<Tensor>> {
        self.inner.linear(x, projections)
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        self.gate.pass();
        self.inner.norm(x, norm)
    }

    fn rotate(&self, x: &Tensor, rows: &RotaryRows) -> Result<Tensor> {
        self.inner.rotate(x, rows)
    }

    fn scores(&self, q: &Tensor, keys: &[Tensor], segments: &Segments, scoring: &Scoring) -> Result<Tensor> {
        self.inner.scores(q, keys, segments, scoring)
    }

    fn probs(&self, scores: &Tensor, segments: &Segments, heads: usize, sinks: Option<&[f32]>) -> Result<Tensor> {
        self.inner.probs(scores, segments, heads, sinks)
    }

    fn mix(&self, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
        self.inner.mix(probs, values, segments, heads)
    }

    fn attention(
        &self,
        q: &Tensor,
        keys: &[Tensor],
        values: &[Tensor],
        segments: &Segments,
        scoring: &Scoring,
    ) -> Result<Tensor> {
        self.inner.attention(q, keys, values, segments, scoring)
    }

    fn activate(&self, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
        self.inner.activate(activation, x, up)
    }

    fn fused(&self) -> bool {
        self.inner.fused()
    }

    fn reads_panels(&self) -> bool {
        self.inner.reads_panels()
    }
}
