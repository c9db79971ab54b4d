//! The start-up file that binds psql's session to a tenant before psql does anything else.
//!
//! psql reads its start-up file before `-c`, `-f`, standard input and the first prompt. The file is a pipe with a constant
//! script (the ticket is in the environment), so that nothing is written to disk. Only the file of the whole machine
//! (`psqlrc` in PostgreSQL's configuration folder) comes before it, and runs bound to no tenant.

use std::{
    ffi::OsStr,
    io::{self, PipeReader, Write},
    path::Path,
};

use anyhow::Context;

/// The environment variable that carries the ticket to psql.
pub(super) const TICKET_VARIABLE: &str = "GUARDIAN_TICKET";

/// Whatever the user has set (`-e`, `-s`, `-S`, `AUTOCOMMIT`, `ON_ERROR_STOP`) must not print, stop at, roll back or skip the
/// binding, so it is put aside and put back. A refused ticket ends psql: it would go on after an error in a start-up file.
/// Without a shell to do that, the second line takes the connection away.
const BIND: &str = r#"\set guardian_echo :ECHO \set ECHO none
\set guardian_on_error_stop :ON_ERROR_STOP \set ON_ERROR_STOP off
\set guardian_singlestep :SINGLESTEP \set SINGLESTEP off
\set guardian_singleline :SINGLELINE \set SINGLELINE off
\set guardian_autocommit :AUTOCOMMIT \set AUTOCOMMIT on
\set guardian_ticket `printf %s "$GUARDIAN_TICKET"`
\setenv GUARDIAN_TICKET
\setenv PGPASSWORD
\set guardian_bound false
SELECT guardian.redeem(pg_catalog.decode(:'guardian_ticket', 'hex')) IS NOT NULL AS guardian_bound \gset
\unset guardian_ticket
\if :guardian_bound
\else
  \warn 'error: the database refused the ticket, so that this session is bound to no tenant; try again'
  \! kill "$PPID"
  \connect -reuse-previous=off 'host=/nowhere dbname=nothing'
\endif
\unset guardian_bound
\set AUTOCOMMIT :guardian_autocommit \unset guardian_autocommit
\set SINGLELINE :guardian_singleline \unset guardian_singleline
\set SINGLESTEP :guardian_singlestep \unset guardian_singlestep
\set ON_ERROR_STOP :guardian_on_error_stop \unset guardian_on_error_stop
"#;

/// Last, because until then `-a` would print the script.
const PRINT_AGAIN: &str = r"\set ECHO :guardian_echo \unset guardian_echo";

/// The start-up file, open in what this process becomes: it binds, gives back the environment (`PSQLRC` was `variable`), and
/// goes on with the user's own file.
pub(super) fn start_up_file(user_rc: Option<&Path>, variable: Option<&OsStr>) -> anyhow::Result<PipeReader> {
    let restored = variable.map(quoted).transpose()?.unwrap_or_default();
    let include = user_rc.map(|path| quoted(path.as_os_str())).transpose()?;
    let include = include.map_or_else(String::new, |path| format!("\\include {path}\n"));
    readable_by_child(&format!("{BIND}\\setenv PSQLRC {restored}\n{PRINT_AGAIN}\n{include}"))
}

/// A pipe with the text in it, open in what this process becomes.
fn readable_by_child(text: &str) -> anyhow::Result<PipeReader> {
    let (reader, mut writer) = io::pipe().context("cannot open a pipe")?;
    // A pipe holds 64 KiB (16 on macOS); the script is far shorter.
    writer.write_all(text.as_bytes()).context("cannot write to a pipe")?;
    rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).context("cannot hand on a pipe")?;
    Ok(reader)
}

/// An argument of a psql command: C-like escapes work inside the quotes, and no quote ends at a line break.
fn quoted(path: &OsStr) -> anyhow::Result<String> {
    let path = path.to_str().with_context(|| format!("the path of psql's start-up file is no UTF-8: {}", path.display()))?;
    let mut quoted = String::from("'");
    for character in path.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_stays_one_argument() {
        assert_eq!(quoted(OsStr::new("/home/o'neil\\x\ny/.psqlrc")).unwrap(), "'/home/o''neil\\\\x\\ny/.psqlrc'");
    }
}
