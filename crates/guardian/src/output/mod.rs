//! Everything that Guardian writes for people and programs goes through here.
//!
//! Tables and lines for people; JSON exactly as the API sends it for programs. Results go to standard output, progress and
//! remarks to standard error. Whatever came from a server is escaped first (see [`text`]), because a terminal obeys control
//! characters. A reader that goes away (`| head`) changes nothing else: the command goes on to its end and its exit code.
//!
//! Logging is not here: `up` logs through `tracing`.

mod progress;
mod table;
mod text;

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use guardian_client::ClientError;
use serde::Serialize;

pub(crate) use progress::Progress;
pub(crate) use table::{Cell, Table};
use text::block;
pub(crate) use text::{counted, duration, line, time};

/// How to write, as the global flags say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON for programs instead of text for people.
    pub(crate) json: bool,
    /// No progress, no remarks.
    pub(crate) quiet: bool,
}

/// How one thing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Went through.
    Good,
    /// Was taken back, or needs a look.
    Caution,
    /// Went wrong.
    Bad,
}

impl Mark {
    const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Caution => "!",
            Self::Bad => "✗",
        }
    }

    const fn style(self) -> Style {
        let colour = match self {
            Self::Good => AnsiColor::Green,
            Self::Caution => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
    }
}

/// A command that did not do what was asked, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Failure {
    problem: String,
    advice: Option<String>,
    exit: u8,
}

impl Failure {
    /// Something went wrong: exit code 1.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), advice: None, exit: 1 }
    }

    /// The command line does not make sense: exit code 2.
    pub(crate) fn usage(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), advice: None, exit: 2 }
    }

    /// Any error, as [`report`] would tell it.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<Self>() {
            Some(Self { problem, advice, exit }) => Self { problem: problem.clone(), advice: advice.clone(), exit: *exit },
            None => Self::new(chain(error)),
        }
    }

    /// Another exit code.
    #[must_use]
    pub(crate) fn exit(mut self, code: u8) -> Self {
        self.exit = code;
        self
    }

    /// What had been going on stands before it.
    #[must_use]
    pub(crate) fn before(mut self, what: impl fmt::Display) -> Self {
        self.problem = format!("{what}: {}", self.problem);
        self
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl Output {
    /// What was asked for: as the API sends it for programs, in the form that `for_people` gives it for people.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        for_people: impl FnOnce(&T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.json {
            return for_people(value);
        }
        let json = serde_json::to_string_pretty(value)?;
        put(&format!("{}\n", text::json(&json)))
    }

    /// One line of a result.
    pub(crate) fn line(self, content: impl fmt::Display) -> anyhow::Result<()> {
        self.people(&format!("{}\n", line(&content.to_string())))
    }

    /// A line that stands above others.
    pub(crate) fn heading(self, content: impl fmt::Display) -> anyhow::Result<()> {
        let bold = Style::new().bold();
        self.people(&format!("{bold}{}{bold:#}\n", line(&content.to_string())))
    }

    /// A line that says how something went.
    pub(crate) fn marked(self, mark: Mark, content: impl fmt::Display) -> anyhow::Result<()> {
        let style = mark.style();
        self.people(&format!("{style}{}{style:#} {}\n", mark.sign(), line(&content.to_string())))
    }

    /// A line that says that a change went through.
    pub(crate) fn done(self, content: impl fmt::Display) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { self.marked(Mark::Good, content) }
    }

    /// Text of several lines, such as SQL.
    pub(crate) fn block(self, content: &str) -> anyhow::Result<()> {
        self.people(&block(content))
    }

    /// A table.
    pub(crate) fn table(self, table: Table) -> anyhow::Result<()> {
        self.people(&table.render(io::stdout().is_terminal()))
    }

    /// Text never stands beside the JSON that a program reads.
    fn people(self, text: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { put(text) }
    }

    /// A remark beside the result, on standard error.
    pub(crate) fn remark(self, content: impl fmt::Display) {
        if !self.quiet {
            let mut stderr = anstream::stderr();
            // Nothing is left to tell it to.
            let _ = writeln!(stderr, "{}", line(&content.to_string()));
        }
    }
}

/// A part of a JSON document that is too long to be held as a whole.
pub(crate) fn json_part(part: &str) -> anyhow::Result<()> {
    put(&text::json(part))
}

/// A script for a program: the same, whatever the flags say.
pub(crate) fn script(text: &str) -> anyhow::Result<()> {
    put(&block(text))
}

/// The only way to standard output. That nobody reads it any more is no failure.
fn put(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says why a command failed and what to do about it; yields its exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let (problem, advice, exit) = if let Some(failure) = error.downcast_ref::<Failure>() {
        (failure.problem.clone(), failure.advice.as_deref(), failure.exit)
    } else if let Some(ClientError::Unreachable { server, .. }) = error.downcast_ref() {
        let advice = "start it with `guardian up`, or name another with --server";
        (format!("cannot reach Guardian at {server}: {}", error.root_cause()), Some(advice), 1)
    } else if error.downcast_ref().and_then(ClientError::status) == Some(401) {
        let advice = "give a token that is not revoked, with --token-file or in the environment variable GUARDIAN_TOKEN";
        ("the control plane does not know the token".to_owned(), Some(advice), 1)
    } else {
        (chain(error), None, 1)
    };
    let mut stderr = anstream::stderr();
    let red = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
    let _ = writeln!(stderr, "{red}error:{red:#} {}", line(&problem));
    if let Some(advice) = advice {
        let cyan = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));
        let _ = writeln!(stderr, "  {cyan}try:{cyan:#} {}", line(advice));
    }
    ExitCode::from(exit)
}

/// The error and its causes in one line; a cause that its effect has quoted already is not said twice.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_not_said_twice() {
        let inner = anyhow::anyhow!("disk full");
        assert_eq!(chain(&inner.context("cannot write x")), "cannot write x: disk full");
        let quoting = anyhow::anyhow!("disk full").context("cannot write x: disk full");
        assert_eq!(chain(&quoting), "cannot write x: disk full");
    }

    #[test]
    fn exit_codes_tell_a_failure_from_a_wrong_command_line() {
        assert_eq!(report(&Failure::new("no").into()), ExitCode::from(1));
        assert_eq!(report(&Failure::usage("no").advise("yes").into()), ExitCode::from(2));
    }
}
