//! psql's arguments, read as far as needed: where to connect is the ticket's business, and `-X` must not skip the binding.
//!
//! An option that this list does not know (of a newer psql) is passed on as one without a value.

use std::ffi::{OsStr, OsString};

use crate::output::Failure;

/// An option of psql: its letter, its long name, whether a value follows, and whether it says where to connect.
struct Known {
    letter: char,
    name: &'static str,
    takes_value: bool,
    connects: bool,
}

const fn flag(letter: char, name: &'static str) -> Known {
    Known { letter, name, takes_value: false, connects: false }
}

const fn value(letter: char, name: &'static str) -> Known {
    Known { letter, name, takes_value: true, connects: false }
}

const fn connection(letter: char, name: &'static str, takes_value: bool) -> Known {
    Known { letter, name, takes_value, connects: true }
}

/// Stands for options that have no letter.
const NONE: char = '\0';

const OPTIONS: [Known; 38] = [
    value('c', "command"),
    value('f', "file"),
    value('F', "field-separator"),
    value('L', "log-file"),
    value('o', "output"),
    value('P', "pset"),
    value('R', "record-separator"),
    value('T', "table-attr"),
    value('v', "set"),
    value(NONE, "variable"),
    connection('d', "dbname", true),
    connection('h', "host", true),
    connection('p', "port", true),
    connection('U', "username", true),
    connection('l', "list", false),
    connection('W', "password", false),
    flag('a', "echo-all"),
    flag('A', "no-align"),
    flag('b', "echo-errors"),
    flag('e', "echo-queries"),
    flag('E', "echo-hidden"),
    flag('H', "html"),
    flag('n', "no-readline"),
    flag('q', "quiet"),
    flag('s', "single-step"),
    flag('S', "single-line"),
    flag('t', "tuples-only"),
    flag('V', "version"),
    flag('w', "no-password"),
    flag('x', "expanded"),
    flag(SKIP_RC, "no-psqlrc"),
    flag('z', "field-separator-zero"),
    flag('0', "record-separator-zero"),
    flag('1', "single-transaction"),
    flag(NONE, "csv"),
    flag('?', "help"),
    flag(NONE, "no-column-names"),
    flag(NONE, "no-pager"),
];

const SKIP_RC: char = 'X';

/// psql's arguments without `-X`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    /// What goes to psql.
    pub(super) passed: Vec<OsString>,
    /// `-X` was among them: the user's start-up file stays unread.
    pub(super) skip_rc: bool,
}

impl Arguments {
    /// Takes `-X` out and refuses what would lead elsewhere.
    pub(super) fn read(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut read = Self { passed: Vec::new(), skip_rc: false };
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let bytes = argument.as_encoded_bytes();
            let value_follows = if let Some(long) = bytes.strip_prefix(b"--") {
                read.long(&argument, &String::from_utf8_lossy(long))?
            } else if bytes.len() > 1 && bytes[0] == b'-' {
                read.letters(&argument, &String::from_utf8_lossy(&bytes[1..]))?
            } else {
                return Err(elsewhere(&argument));
            };
            if value_follows {
                read.passed.extend(rest.next());
            }
        }
        Ok(read)
    }

    /// `--name`, `--name=value` or an abbreviation of it; yields whether the value is the next argument.
    fn long(&mut self, argument: &OsStr, text: &str) -> Result<bool, Failure> {
        let (name, inline) = text.split_once('=').map_or((text, false), |(name, _)| (name, true));
        let exact = OPTIONS.iter().find(|option| option.name == name);
        let known = exact.or_else(|| OPTIONS.iter().find(|option| !name.is_empty() && option.name.starts_with(name)));
        match known {
            // Behind a bare `--` there are only a database and a user.
            None if text.is_empty() => Err(elsewhere(argument)),
            Some(option) if option.connects => Err(elsewhere(argument)),
            Some(option) if option.letter == SKIP_RC => {
                self.skip_rc = true;
                Ok(false)
            }
            Some(_) | None => {
                self.passed.push(argument.to_owned());
                Ok(known.is_some_and(|option| option.takes_value) && !inline)
            }
        }
    }

    /// `-qAtX` or `-cSELECT`; yields whether the value is the next argument.
    fn letters(&mut self, argument: &OsStr, text: &str) -> Result<bool, Failure> {
        let mut kept = String::from("-");
        for (index, letter) in text.char_indices() {
            let known = OPTIONS.iter().find(|option| option.letter == letter && letter != NONE);
            match known {
                Some(option) if option.connects => return Err(elsewhere(argument)),
                Some(option) if option.takes_value => {
                    // The value stays as it is, also when it is no UTF-8.
                    let value_is_next = index + letter.len_utf8() == text.len();
                    self.keep_letters(argument, &kept, index);
                    return Ok(value_is_next);
                }
                _ if letter == SKIP_RC => self.skip_rc = true,
                _ => kept.push(letter),
            }
        }
        if kept.len() > 1 {
            self.passed.push(kept.into());
        }
        Ok(false)
    }

    /// Passes on the letters before the one at `index` as `kept`, and the rest of the argument untouched.
    fn keep_letters(&mut self, argument: &OsStr, kept: &str, index: usize) {
        if kept.len() - 1 == index {
            self.passed.push(argument.to_owned());
            return;
        }
        // An `X` was taken out, so everything before the letter with a value is ASCII.
        let rest: OsString = std::os::unix::ffi::OsStringExt::from_vec(argument.as_encoded_bytes()[1 + index..].to_vec());
        let mut together = OsString::from(kept);
        together.push(rest);
        self.passed.push(together);
    }
}

fn elsewhere(argument: &OsStr) -> Failure {
    Failure::usage(format!("psql's `{}` says where to connect, which the ticket does already", argument.display()))
        .advise("leave it out; SQL goes behind -c or -f, or into standard input")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<(Vec<String>, bool), Failure> {
        let read = Arguments::read(arguments.iter().map(OsString::from).collect())?;
        Ok((read.passed.into_iter().map(|argument| argument.into_string().unwrap()).collect(), read.skip_rc))
    }

    fn passed(arguments: &[&str]) -> (Vec<String>, bool) {
        read(arguments).unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ordinary_arguments_pass_unchanged() {
        for arguments in [
            &["-c", "SELECT 1", "-f", "a.sql"][..],
            &["-Atc", "-X"],
            &["--command=SELECT 1", "--csv", "-F", "-d"],
            &["--set", "-h", "-v", "X=1", "-fX.sql", "-1"],
            &["--from-the-future", "-?"],
        ] {
            assert_eq!(passed(arguments), (words(arguments), false));
        }
    }

    #[test]
    fn the_start_up_file_can_be_skipped_in_every_spelling() {
        assert_eq!(passed(&["-X"]), (words(&[]), true));
        assert_eq!(passed(&["-qAtX", "-c", "x"]), (words(&["-qAt", "-c", "x"]), true));
        assert_eq!(passed(&["-XAtcSELECT 'XX'"]), (words(&["-AtcSELECT 'XX'"]), true));
        assert_eq!(passed(&["-qXc", "-X"]), (words(&["-qc", "-X"]), true));
        assert_eq!(passed(&["--no-psqlrc"]), (words(&[]), true));
        assert_eq!(passed(&["--no-ps"]), (words(&[]), true));
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for arguments in [
            &["-h", "elsewhere"][..],
            &["-helsewhere"],
            &["-qAtU", "postgres"],
            &["--host=elsewhere"],
            &["--user", "postgres"],
            &["-d", "postgres"],
            &["postgres"],
            &["-c", "SELECT 1", "host=elsewhere"],
            &["--", "postgres"],
            &["-l"],
            &["-"],
        ] {
            assert!(read(arguments).is_err(), "{arguments:?}");
        }
    }
}
