//! Who stops a job, what it leaves behind, and what its usage says.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

#[path = "../common/mod.rs"]
mod common;
mod deadlines;
mod gate;
mod memory;
mod turns;
mod usage;

use std::sync::Arc;

use common::{Lab, Ran, Running};
use gate::{Gate, Gated};
use patchbay_engine::{Engine, EngineSettings};
use serde_json::{Value, json};

/// Blocks of the model.
const LAYERS: usize = 3;

/// A model of three blocks whose waves wait at a gate.
struct Place {
    lab: Lab,
    gate: Gate,
}

impl Place {
    fn new(settings: EngineSettings) -> Self {
        let (lab, gate) = (Lab::golden("llama-gqa-tied"), Gate::default());
        let decoder = lab.engine.decoder().with_kernels(Gated::new(&gate));
        assert_eq!(decoder.tree().layers.len(), LAYERS);
        Self { lab: Lab { engine: Engine::start(Arc::new(decoder), settings), ..lab }, gate }
    }

    /// A request that runs, and stands at the gate, which is shut.
    fn standing(&self) -> Running {
        self.gate.shut();
        let came = self.gate.came();
        let running = self.lab.submit(&last(&[&[9, 8]])).unwrap();
        self.gate.wait_beyond(came);
        running
    }

    /// Requests that run in one wave.
    fn together(&self, bodies: &[Value]) -> Vec<Ran> {
        let first = self.standing();
        let running: Vec<Running> = bodies.iter().map(|body| self.lab.submit(body).unwrap()).collect();
        self.gate.open();
        first.wait().unwrap();
        running.into_iter().map(|running| running.wait().unwrap()).collect()
    }
}

/// The output of the last block, for all tokens.
fn last(rows: &[&[u32]]) -> Value {
    json!({"input": rows, "graph": [{"op": "save", "value": "layers.2.output", "as": "x"}]})
}
