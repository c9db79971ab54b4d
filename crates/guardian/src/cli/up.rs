//! `guardian up`.

use std::{net::SocketAddr, path::Path};

use serde::Serialize;

use super::Global;
use crate::{
    boot::{self, Ready},
    config_file::ConfigFile,
    logging::{self, LogFormat},
    output::{Mark, Output},
    state_folder::StateFolder,
};

/// Start the control plane and the SQL gateway and, where it is wanted, a local PostgreSQL
#[derive(Debug, clap::Args)]
#[command(after_help = "Stops on SIGTERM and SIGINT (Ctrl-C), after what is at work has come to an end.

Examples:
  guardian up
  guardian up --config deploy/guardian.toml --log-format json
  guardian up --new-admin-token")]
pub(crate) struct Up {
    /// The form of the log on standard error; `GUARDIAN_LOG` filters it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Replace the first administrator's token by a new one, because the file with it was lost; the old one is revoked
    #[arg(long)]
    new_admin_token: bool,
}

/// What `--json` prints once the API answers.
#[derive(Debug, Serialize)]
struct Started<'a> {
    api: SocketAddr,
    sql: Option<SocketAddr>,
    admin_token_file: &'a Path,
    took_ms: u128,
}

impl Up {
    pub(crate) async fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        logging::start(self.log_format)?;
        let file = ConfigFile::read(&global.config)?;
        let state = StateFolder::at(std::path::absolute(global.state_folder())?);
        let token = state.admin_token_path();
        boot::run(file, state, self.new_admin_token, |ready| {
            let Ready { address, sql, took } = *ready;
            let started = Started { api: address, sql, admin_token_file: &token, took_ms: took.as_millis() };
            output.result(&started, |_| {
                output.marked(Mark::Good, format!("ready after {:.1} s: http://{address}", took.as_secs_f64()))?;
                if let Some(sql) = sql {
                    output.remark(format!("  PostgreSQL clients: {sql} (see guardian login create)"));
                }
                if token.exists() {
                    output.remark(format!("  administrator's token: {}", token.display()));
                }
                output.remark("  next, in another terminal: guardian migrate && guardian apply");
                Ok(())
            })
        })
        .await
    }
}
