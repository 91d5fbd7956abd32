//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::options::{ModelOptions, ServeOptions};

/// Look inside a running forward pass of a language model, and change it.
#[derive(Debug, Parser)]
#[command(name = "patchbay", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models over HTTP
    Serve(Box<ServeOptions>),
    /// Run the trace in a file
    Trace(Box<TraceCommand>),
    /// Run a request for all rows of a JSONL file, some at a time, and go on where it stopped
    Dataset(Box<DatasetCommand>),
    /// Say what the trace in a file would return, how it would run and what it would cost
    Validate(Box<TraceCommand>),
    /// Describe models
    Models(Box<ModelsCommand>),
    /// List every site of a model, with its shape
    Tree(Box<LookCommand>),
    /// Run the load-time checks on a model, and hold it against recorded activations; fails where one of them does
    Check(Box<CheckCommand>),
    /// Print the HTTP contract as OpenAPI
    Openapi,
}

/// A trace from a file.
#[derive(Debug, Args)]
pub(crate) struct TraceCommand {
    /// A JSON file with the body of a trace, or a graph alone, as JSON or as text; `-` reads standard input
    pub(crate) file: PathBuf,
    /// The model: [NAME=]SOURCE to load it here, or its name on the server
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// A text to run on in place of the file's inputs; several are rows of one batch
    #[arg(long, value_name = "TEXT")]
    pub(crate) input: Vec<String>,
    /// A tensor for the graph to name as @NAME, from a safetensors or JSON file
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) tensor: Vec<String>,
    /// Where to write the answer: safetensors where the name ends in .safetensors, JSON elsewhere
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A request over the rows of a file.
#[derive(Debug, Args)]
pub(crate) struct DatasetCommand {
    /// A JSONL file: on each line an object with a value for each column
    pub(crate) rows: PathBuf,
    /// A JSON file with the body of a trace, or of the recipe that its field `recipe` names. A string that is `{COLUMN}` and
    /// nothing else stands for that column of a batch: `"input": "{text}"`
    pub(crate) file: PathBuf,
    /// The folder for part-00000.safetensors and so on. Parts that are there are not made again
    #[arg(long, value_name = "FOLDER")]
    pub(crate) into: PathBuf,
    /// Rows of a part
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) batch_size: usize,
    /// The model: [NAME=]SOURCE to load it here, or its name on the server
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number above 0 was expected".to_owned())
}

/// A look at several models.
#[derive(Debug, Args)]
pub(crate) struct ModelsCommand {
    /// Models to load and describe: [NAME=]SOURCE. With --server, names; all of the server's without one
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A look at one model.
#[derive(Debug, Args)]
pub(crate) struct LookCommand {
    /// The model: [NAME=]SOURCE to load it here, or its name on the server
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A model put to the test.
#[derive(Debug, Args)]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    pub(crate) look: LookCommand,
    /// A safetensors file of `input_ids` and of what another program computed at sites of the tree, under the sites' names
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// How far a site may be from the recorded one, as a share of its largest value
    #[arg(long, value_name = "SHARE", default_value_t = 2e-3)]
    pub(crate) tolerance: f32,
}

/// Where the work is done.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Have a running server do it, in place of this process
    #[arg(long, value_name = "URL", env = "PATCHBAY_SERVER")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
}
