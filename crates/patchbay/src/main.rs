//! The patchbay command: serves models over HTTP, and does the same work without a server.

mod against;
mod backend;
mod bytes;
mod cli;
mod dataset;
mod listen;
mod local;
mod options;
mod print;
mod progress;
mod remote;
mod request;
mod serve;
mod source;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[cfg(target_os = "linux")]
#[global_allocator]
static HEAP: patchbay_heap::Heap = patchbay_heap::Heap;

fn main() -> ExitCode {
    patchbay_heap::settle();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(flags) => serve::serve(flags).await,
            Command::Trace(command) => command.trace().await,
            Command::Dataset(command) => command.dataset().await,
            Command::Validate(command) => command.validate().await,
            Command::Models(command) => command.models().await,
            Command::Tree(command) => command.tree().await,
            Command::Check(command) => command.check().await,
            Command::Openapi => print::text(&patchbay_server::http::openapi()),
        }
    });
    // What a stopped server still has under way is not waited for.
    runtime.shutdown_background();
    outcome
}
