//! The hookable decoder: one block that runs every architecture, and offers every site to a tap.
//!
//! A [`Checkpoint`](patchbay_checkpoint::Checkpoint)'s configuration is turned into a [`Spec`], pure data, by the
//! architecture's own file in `arch`; from there on every architecture is the same code. [`Decoder`] runs it: `embed`,
//! then `block` for each layer, then `unembed`. At every [`Site`](patchbay_graph::Site) it asks a [`Tap`] whether the
//! value there is wanted, and where it is not, nothing is made that the model itself does not need.
//!
//! Tokens are packed: the rows of a value are the tokens of many sequences one after the other, and [`Segments`] says
//! which belong together. There is no padding.
//!
//! ```no_run
//! use candle_core::Tensor;
//! use patchbay_checkpoint::{HubSettings, Source, open};
//! use patchbay_graph::{LayerSite, Site};
//! use patchbay_model::{Decoder, LoadOptions, Segments, Tap};
//!
//! /// Doubles what block 5 adds to the residual stream, and prints the logits' shape.
//! struct Double;
//!
//! impl Tap for Double {
//!     fn wants(&self, site: Site) -> bool {
//!         matches!(site, Site::Layer(5, LayerSite::MlpAdd) | Site::Logits)
//!     }
//!
//!     fn visit(&mut self, site: Site, value: Tensor) -> candle_core::Result<Tensor> {
//!         if site == Site::Logits {
//!             println!("{:?}", value.shape());
//!             return Ok(value);
//!         }
//!         value * 2.0
//!     }
//! }
//!
//! let checkpoint = open(&Source::parse("org/name")?, &HubSettings::default(), &|_| ())?;
//! let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ())?;
//! decoder.forward(&[504, 3575, 282], &Segments::from_lengths(&[3]), &mut Double)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod attention;
mod block;
mod cache;
mod checks;
mod decoder;
pub mod derive;
mod error;
mod experts;
mod instructions;
pub mod kernels;
mod load;
mod matrix;
mod memory;
mod mlp;
mod names;
mod outputs;
mod panels;
mod parameters;
mod part;
mod precision;
mod prefetch;
mod proofs;
mod rope;
mod router;
mod run;
mod segments;
pub mod spec;
mod tap;

pub use arch::{describe, supported_model_types};
pub use cache::{Caches, KeyCache};
pub use checks::{Check, CheckReport, run_checks};
pub use decoder::{Decoder, LoadOptions};
pub use error::LoadError;
pub use matrix::Matrix;
pub use memory::{KeyMemory, NoMemory, Sources};
pub use outputs::Outputs;
pub use panels::Panels;
pub use parameters::{Linear, Norm};
pub use part::parameters;
pub use precision::Precision;
pub use proofs::{Proof, proofs};
pub use rope::{Pairing, RotaryRows, RotaryScaling, RotarySpec};
pub use run::{Onward, Run};
pub use segments::{Segment, Segments, Span};
pub use spec::Spec;
pub use tap::{NoTap, Tap};
