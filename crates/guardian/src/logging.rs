//! Logs of `guardian up`: on standard error, as text for people or JSON for machines. `GUARDIAN_LOG` filters them.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

const VARIABLE: &str = "GUARDIAN_LOG";
/// `sqlx` warns of slow statements with their text, which belongs in nobody's log.
const DEFAULT: &str = "info,sqlx=error";

/// `GUARDIAN_LOG` is not understood.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} is no filter such as `info` or `guardian_lifecycle=debug,info`: {0}")]
pub(crate) struct LogFilterError(#[from] ParseError);

/// Sets up logging for the whole process.
pub(crate) fn start(format: LogFormat) -> Result<(), LogFilterError> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        Ok(_) | Err(_) => EnvFilter::new(DEFAULT),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
