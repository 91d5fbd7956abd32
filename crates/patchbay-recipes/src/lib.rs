//! The analyses of interpretability, each as a graph of the language.
//!
//! A recipe takes the few fields that its analysis needs and makes the body of a trace of them: what [`Made::body`] holds can be sent to
//! `/v1/trace` as it is, or changed first. No recipe computes anything by itself, so that all that holds for graphs holds for recipes:
//! they are checked before they run, share waves with other requests, and cost what a graph written by hand costs. What is wrong with the
//! graph is said of the recipe's own fields ([`Made::placed`]).
//!
//! [`NAMES`] lists them, [`make`] makes one. Shapes in the documentation: N prompts, L layers asked for, V vocabulary, D hidden size.

mod arguments;
mod ask;
mod draft;
mod metric;
mod picture;
mod recipes;
mod targets;

pub use ask::Ask;
pub use draft::Made;
pub use picture::Picture;
pub use recipes::{NAMES, make};
