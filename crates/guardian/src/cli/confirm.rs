//! Asks before something that cannot be taken back. Where nobody can answer, a flag has to say it.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::output::{Failure, line};

/// The answer to a question, or nothing where no terminal is there to ask on.
fn ask(question: &str) -> anyhow::Result<Option<String>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let mut stderr = anstream::stderr();
    write!(stderr, "{} ", line(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(Some(answer.trim().to_owned()))
}

/// Goes on only after a yes; `flag` says it beforehand.
pub(crate) fn yes(question: &str, flag: &str) -> anyhow::Result<()> {
    match ask(&format!("{question} [y/N]"))?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => Err(Failure::new("nothing was done").into()),
        None => Err(Failure::usage(format!("there is no terminal to ask on; say {flag}")).into()),
    }
}

/// Goes on only after `word` was typed again; `given` is what the flag said.
pub(crate) fn word(question: &str, word: &str, given: Option<&str>, flag: &str) -> anyhow::Result<()> {
    let answer = match given {
        Some(given) => Some(given.to_owned()),
        None => ask(question)?,
    };
    match answer {
        Some(answer) if answer == word => Ok(()),
        Some(answer) => Err(Failure::new(format!("`{answer}` is not `{word}`: nothing was done")).into()),
        None => Err(Failure::usage(format!("there is no terminal to ask on; say {flag} {word}")).into()),
    }
}
