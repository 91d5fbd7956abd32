//! Settings: flags before `PATCHBAY_…` variables before the configuration file before defaults.
//!
//! Every flag is a key of the file under the same name, with `_` for `-`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use patchbay_server::{Settings, Timeouts};
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;

/// How long a request may take, by default and at most.
const TIMEOUT: Duration = Duration::from_secs(600);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// What decides how models are loaded and what a request may ask for.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModelOptions {
    /// Where models run: auto, cpu, cuda or cuda:N
    #[arg(long, env = "PATCHBAY_DEVICE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// What models' weights are kept as: auto, f32, bf16, f16, q8_0 or q4_k
    #[arg(long, env = "PATCHBAY_DTYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<String>,
    /// What is logged: error, warn, info, debug, or a filter by module
    #[arg(long, env = "PATCHBAY_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// Base URL of the Hub (also HF_ENDPOINT)
    #[arg(long, env = "PATCHBAY_HUB_ENDPOINT", value_name = "URL", help_heading = "Hub")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_endpoint: Option<String>,
    /// Folder that downloads are kept in (also HF_HUB_CACHE, HF_HOME)
    #[arg(long, env = "PATCHBAY_HUB_CACHE", value_name = "DIR", help_heading = "Hub")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_cache: Option<PathBuf>,
    /// Access token of the Hub (also HF_TOKEN); a variable keeps it out of the list of processes
    #[arg(long, env = "PATCHBAY_HUB_TOKEN", hide_env_values = true, value_name = "TOKEN", help_heading = "Hub")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_token: Option<String>,
    /// Use only what was downloaded before (also HF_HUB_OFFLINE)
    #[arg(long, env = "PATCHBAY_HUB_OFFLINE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
        help_heading = "Hub")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_offline: Option<bool>,
    /// Nodes of a graph, those written into others included
    #[arg(long, env = "PATCHBAY_MAX_NODES", value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_nodes: Option<usize>,
    /// Cells of a sweep
    #[arg(long, env = "PATCHBAY_MAX_CELLS", value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cells: Option<usize>,
    /// Rows of all inputs of a request together
    #[arg(long, env = "PATCHBAY_MAX_ROWS", value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rows: Option<usize>,
    /// Tokens of all inputs of a request together
    #[arg(long, env = "PATCHBAY_MAX_TOKENS", value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    /// Bytes of all results of a request together
    #[arg(long, env = "PATCHBAY_MAX_RESULT_BYTES", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_result_bytes: Option<u64>,
    /// Bytes that a request may hold while it runs
    #[arg(long, env = "PATCHBAY_MAX_PEAK_BYTES", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_peak_bytes: Option<u64>,
    /// Bytes of a request's body
    #[arg(long, env = "PATCHBAY_MAX_BODY_BYTES", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_body_bytes: Option<usize>,
    /// Bytes that the weights of a model may take; by default what the machine has available
    #[arg(long, env = "PATCHBAY_MAX_LOAD_BYTES", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_load_bytes: Option<u64>,
    /// What all requests together may hold beside the models: bytes, or such as 512MiB or 8GiB; by default what the machine has
    /// available
    #[arg(long, env = "PATCHBAY_MEMORY", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Bytes>,
    /// Bytes of prompts' keys that each model keeps for prompts that begin alike, of what is free; 0 keeps none
    #[arg(long, env = "PATCHBAY_PREFIX_CACHE", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_cache: Option<Bytes>,
    /// Requests that may wait for one model
    #[arg(long, env = "PATCHBAY_QUEUE", value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<usize>,
    /// Names that a caller's tensors may have
    #[arg(long, env = "PATCHBAY_MAX_NAMES", value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_names: Option<usize>,
    /// Bytes that a caller may keep under one name
    #[arg(long, env = "PATCHBAY_MAX_TENSOR_BYTES", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tensor_bytes: Option<u64>,
    /// Bytes that a caller may keep under all names
    #[arg(long, env = "PATCHBAY_MAX_TOTAL_BYTES", value_name = "BYTES", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_total_bytes: Option<u64>,
}

/// What `serve` is told.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServeOptions {
    /// A TOML file with these settings as keys: `port = 8420`, `model = ["smollm2=path/to/it"]`
    #[arg(long, env = "PATCHBAY_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// The address to listen at; loopback only, since there are no keys [default: 127.0.0.1]
    #[arg(long, env = "PATCHBAY_HOST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// The port; 0 takes a free one [default: 8420]
    #[arg(long, env = "PATCHBAY_PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// A model to load: a folder in the Hugging Face layout, a .gguf file, or a Hub id `org/name[@revision]`
    #[arg(long, env = "PATCHBAY_MODEL", value_name = "[NAME=]SOURCE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) model: Vec<String>,
    /// Seconds that a request may take which does not say so itself [default: 600]
    #[arg(long, env = "PATCHBAY_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<f64>,
    /// Seconds that a request may ask for [default: 3600]
    #[arg(long, env = "PATCHBAY_MAX_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_timeout: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) models: ModelOptions,
}

impl ServeOptions {
    /// These settings over those of the configuration file.
    pub(crate) fn over_file(self) -> anyhow::Result<Self> {
        let Some(file) = self.config.clone() else { return Ok(self) };
        let figment = Figment::from(Toml::file_exact(&file));
        let known: Self = figment.extract().with_context(|| format!("{} cannot be read", file.display()))?;
        let written = figment.extract::<figment::value::Dict>()?;
        let example = serde_json::to_value(Self::every_key())?;
        let keys: Vec<&str> =
            example.as_object().map(|keys| keys.keys().map(String::as_str).collect()).unwrap_or_default();
        if let Some(unknown) = written.keys().find(|key| !keys.contains(&key.as_str())) {
            anyhow::bail!("{} has the key `{unknown}`, which is none of: {}", file.display(), keys.join(", "));
        }
        Ok(Figment::from(Serialized::defaults(known)).merge(Serialized::defaults(self)).extract()?)
    }

    /// Settings in which every key is given.
    fn every_key() -> Self {
        let text = || Some(String::new());
        let models = ModelOptions {
            device: text(),
            dtype: text(),
            log: text(),
            hub_endpoint: text(),
            hub_cache: Some(PathBuf::new()),
            hub_token: text(),
            hub_offline: Some(false),
            max_nodes: Some(0),
            max_cells: Some(0),
            max_rows: Some(0),
            max_tokens: Some(0),
            max_result_bytes: Some(0),
            max_peak_bytes: Some(0),
            max_body_bytes: Some(0),
            max_load_bytes: Some(0),
            memory: Some(Bytes(0)),
            prefix_cache: Some(Bytes(0)),
            queue: Some(0),
            max_names: Some(0),
            max_tensor_bytes: Some(0),
            max_total_bytes: Some(0),
        };
        let (timeout, max_timeout, model) = (Some(0.0), Some(0.0), vec![String::new()]);
        Self { config: None, host: text(), port: Some(0), model, timeout, max_timeout, models }
    }

    /// The service's settings: what is not given here is as it is by default.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings { timeouts: self.timeouts()?, ..self.models.settings()? })
    }

    /// How long requests may take. The most is at least what they have by default, unless both are given.
    fn timeouts(&self) -> anyhow::Result<Timeouts> {
        let given = |name: &str, seconds: Option<f64>| {
            let time = seconds.map(|seconds| {
                let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| time.as_millis() > 0);
                time.with_context(|| format!("{name} is a number of seconds above 0, found {seconds}"))
            });
            time.transpose()
        };
        let (default, most) = (given("timeout", self.timeout)?, given("max_timeout", self.max_timeout)?);
        if let (Some(default), Some(most)) = (default, most) {
            anyhow::ensure!(default <= most, "timeout, {default:?}, is more than max_timeout, {most:?}");
        }
        let most = most.unwrap_or_else(|| MAX_TIMEOUT.max(default.unwrap_or_default()));
        Ok(Timeouts { default: Some(default.unwrap_or(TIMEOUT.min(most))), most: Some(most) })
    }
}

impl ModelOptions {
    /// The service's settings: what is not given here is as it is by default.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings::default();
        let set = |setting: &mut usize, given: Option<usize>| *setting = given.unwrap_or(*setting);
        let set_bytes = |setting: &mut u64, given: Option<u64>| *setting = given.unwrap_or(*setting);
        set(&mut settings.limits.max_nodes, self.max_nodes);
        set(&mut settings.limits.max_cells, self.max_cells);
        set(&mut settings.limits.max_rows, self.max_rows);
        set(&mut settings.limits.max_tokens, self.max_tokens);
        set_bytes(&mut settings.limits.max_result_bytes, self.max_result_bytes);
        set_bytes(&mut settings.limits.max_peak_bytes, self.max_peak_bytes);
        set(&mut settings.body.0, self.max_body_bytes);
        set(&mut settings.store.max_names, self.max_names);
        set_bytes(&mut settings.store.max_tensor_bytes, self.max_tensor_bytes);
        set_bytes(&mut settings.store.max_total_bytes, self.max_total_bytes);
        settings.max_load_bytes = self.max_load_bytes.or(settings.max_load_bytes);
        settings.queue = self.queue.or(settings.queue);
        settings.memory = self.memory.map(|Bytes(bytes)| bytes).or(settings.memory);
        settings.prefix_cache = self.prefix_cache.map(|Bytes(bytes)| bytes).or(settings.prefix_cache);
        if let Some(device) = &self.device {
            settings.device = device.parse()?;
        }
        if let Some(dtype) = &self.dtype {
            settings.dtype = dtype.parse()?;
        }
        let hub = &mut settings.hub;
        hub.endpoint = self.hub_endpoint.clone().or(hub.endpoint.take());
        hub.cache = self.hub_cache.clone().or(hub.cache.take());
        hub.token = self.hub_token.clone().or(hub.token.take());
        hub.offline = self.hub_offline.unwrap_or(hub.offline);
        Ok(settings)
    }

    /// Starts logging to standard error.
    pub(crate) fn start_logging(&self, default: &str) -> anyhow::Result<()> {
        let filter = self.log.as_deref().unwrap_or(default);
        let filter = tracing_subscriber::EnvFilter::try_new(filter)
            .with_context(|| format!("`{filter}` is not a log filter; take error, warn, info or debug"))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(toml: &str, flags: ServeOptions) -> anyhow::Result<ServeOptions> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patchbay.toml");
        std::fs::write(&file, toml).unwrap();
        ServeOptions { config: Some(file), ..flags }.over_file()
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let flags = ServeOptions { port: Some(1), ..ServeOptions::default() };
        let options = options("port = 2\nhost = \"::1\"\nmax_rows = 7\nmodel = [\"a=b\"]", flags).unwrap();
        assert_eq!((options.port, options.host.as_deref()), (Some(1), Some("::1")));
        assert_eq!(options.model, ["a=b"]);
        let settings = options.models.settings().unwrap();
        assert_eq!((settings.limits.max_rows, settings.limits.max_nodes), (7, 4096));
    }

    #[test]
    fn memory_is_a_number_or_a_text() {
        for (toml, bytes) in [("memory = 1000", 1000), ("memory = \"2GiB\"", 2 << 30)] {
            let options = options(toml, ServeOptions::default()).unwrap();
            assert_eq!(options.models.settings().unwrap().memory, Some(bytes));
        }
        assert!(options("memory = \"much\"", ServeOptions::default()).is_err());
    }

    #[test]
    fn a_key_that_does_not_exist_is_named_with_those_that_do() {
        let error = options("prot = 2", ServeOptions::default()).unwrap_err().to_string();
        assert!(error.contains("`prot`") && error.contains("port") && error.contains("max_total_bytes"), "{error}");
        let error = format!("{:#}", options("port = \"x\"", ServeOptions::default()).unwrap_err());
        assert!(error.contains("patchbay.toml") && error.contains("port"), "{error}");
    }

    #[test]
    fn the_most_is_not_below_the_default() {
        let timeouts = |timeout, max_timeout| {
            let settings = ServeOptions { timeout, max_timeout, ..ServeOptions::default() }.settings();
            settings.map(|settings| {
                [settings.timeouts.default, settings.timeouts.most].map(|time| time.unwrap().as_secs_f64())
            })
        };
        for (timeout, max_timeout, expected) in [
            (None, None, [600.0, 3600.0]),
            (Some(0.5), None, [0.5, 3600.0]),
            (Some(7200.0), None, [7200.0, 7200.0]),
            (None, Some(60.0), [60.0, 60.0]),
            (Some(5.0), Some(7.0), [5.0, 7.0]),
        ] {
            assert_eq!(timeouts(timeout, max_timeout).unwrap(), expected);
        }
        for (timeout, max_timeout) in
            [(Some(8.0), Some(7.0)), (Some(0.0), None), (None, Some(-1.0)), (Some(f64::NAN), None)]
        {
            assert!(timeouts(timeout, max_timeout).unwrap_err().to_string().contains("timeout"));
        }
    }

    #[test]
    fn every_flag_is_a_key_and_a_variable() {
        use clap::Args as _;
        let command = ServeOptions::augment_args(clap::Command::new("serve"));
        let keys = serde_json::to_value(ServeOptions::every_key()).unwrap();
        for argument in command.get_arguments() {
            let flag = argument.get_long().unwrap();
            let key = flag.replace('-', "_");
            let variable = format!("PATCHBAY_{}", key.to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
            assert!(key == "config" || keys.get(&key).is_some(), "{key} is not a key of the file");
        }
    }
}
