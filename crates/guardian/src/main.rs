//! Guardian's one binary.

mod boot;
mod cli;
mod config_file;
mod data_plane;
mod logging;
mod master_key;
mod output;
mod state_folder;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(cli::Cli::parse()).await
}
