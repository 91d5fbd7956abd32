//! Which sites of which architecture are proven equal to Hugging Face's.
//!
//! A proof is golden data in the repository: a tiny model of the type, and what transformers computes at its sites. The tests
//! hold every site of each against it; `proofs.json` says which these are, and a test holds it to the golden data.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// What the golden data prove of one `model_type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The golden models, each a variant.
    pub goldens: Vec<String>,
    /// The sites recorded, in the order of the forward pass; `i` stands for the number of a layer.
    pub sites: Vec<String>,
}

static PROOFS: LazyLock<BTreeMap<String, Proof>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../proofs.json")).unwrap_or_default());

/// What is proven, by `model_type`.
pub fn proofs() -> &'static BTreeMap<String, Proof> {
    &PROOFS
}
