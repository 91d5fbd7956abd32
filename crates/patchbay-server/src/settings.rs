//! What the operator decides.

use patchbay_checkpoint::HubSettings;
use patchbay_graph::Limits;
use serde::{Deserialize, Serialize};

use crate::deadline::Timeouts;
use crate::device::{DeviceChoice, DtypeChoice};

/// Settings of the service.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What one request may ask for.
    pub limits: Limits,
    /// The largest body of a request, in bytes.
    pub body: BodyLimit,
    /// What a caller may keep on the server.
    pub store: StoreLimits,
    /// How long a request may take.
    pub timeouts: Timeouts,
    /// Jobs that may wait for one model.
    pub queue: Option<usize>,
    /// Bytes that the weights of a model may take; what the machine has available where nothing stands here.
    pub max_load_bytes: Option<u64>,
    /// Bytes that all requests together may hold; what the machine has available where nothing stands here.
    pub memory: Option<u64>,
    /// Bytes of prompts' keys that each model keeps; as the engine says, where nothing stands here.
    pub prefix_cache: Option<u64>,
    /// Where models run, unless a load says otherwise.
    pub device: DeviceChoice,
    /// The type that models compute in, unless a load says otherwise.
    pub dtype: DtypeChoice,
    /// How models are fetched from the Hub.
    pub hub: HubSettings,
}

/// The largest body of a request, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(256 << 20)
    }
}

/// What a caller may keep on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// Names in use.
    pub max_names: usize,
    /// Bytes under one name.
    pub max_tensor_bytes: u64,
    /// Bytes under all names together.
    pub max_total_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { max_names: 4096, max_tensor_bytes: 1 << 30, max_total_bytes: 4 << 30 }
    }
}
