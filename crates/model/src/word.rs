//! The words of the API gateway: permissions, subjects and host names, parsed once, where they come in.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const PERMISSION_LEN_MAX: usize = 64;
const SUBJECT_LEN_MAX: usize = 255;
const HOST_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// Why a text is no such word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// No permission.
    #[error("`{0}` is no permission; use 1 to 64 of a-z, 0-9, _, ., : and -, such as `ticket.read`")]
    Permission(String),
    /// No subject. What was given may be long or unprintable, so it is not repeated.
    #[error("a subject has 1 to 255 bytes, none of them a space or a control character")]
    Subject,
    /// No host name.
    #[error(
        "`{0}` is no host name; use lower-case labels of a-z, 0-9 and -, without a port; other letters as punycode (`xn--…`)"
    )]
    Host(String),
}

fn is_permission(text: &str) -> bool {
    (1..=PERMISSION_LEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b':' | b'-'))
}

/// Letters and digits of every script, and the visible characters of ASCII: nothing that hides, or turns the text around.
fn is_subject(text: &str) -> bool {
    (1..=SUBJECT_LEN_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric()))
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= HOST_LEN_MAX && text.split('.').all(is_label)
}

/// What of a refused text is repeated.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident, $test:ident, $error:expr, $pattern:literal, $example:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, pattern = $pattern, example = $example)]
        pub struct $name(Box<str>);

        impl $name {
            /// The word itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                if $test(text) { Ok(Self(text.into())) } else { Err(($error)(text)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = WordError;

            fn try_from(text: String) -> Result<Self, WordError> {
                if $test(&text) { Ok(Self(text.into_boxed_str())) } else { Err(($error)(&text)) }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.0.into_string()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )+};
}

words! {
    /// What a route asks for (`ticket.read`).
    PermissionName, is_permission, |text: &str| WordError::Permission(shown(text)), "^[a-z0-9_.:-]{1,64}$", "ticket.read";
    /// Who acts for a tenant: the claim `sub` of a token, a certificate's name, or an API key's id.
    Subject, is_subject, |_: &str| WordError::Subject, "^\\S{1,255}$", "ada@acme.example";
    /// A host name as it stands in a `Host` header: lower case, no port, no dot at the end.
    HostName, is_host, |text: &str| WordError::Host(shown(text)), "^[a-z0-9-]{1,63}([.][a-z0-9-]{1,63})*$", "support.acme.com";
}

impl HostName {
    /// Whether it could be read as an IP address: its last label is a number.
    pub fn is_address(&self) -> bool {
        self.0.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"))
    }

    /// Whether it is this host, or one below it.
    pub fn is_within(&self, suffix: &Self) -> bool {
        self.0.strip_suffix(&*suffix.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_lower_case_labels_without_a_port() {
        for good in ["acme.com", "localhost", "xn--mnchen-3ya.example", "a", "1.2.3.4", "a-b.c"] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        let long = format!("{}.com", "a".repeat(64));
        let longer = "a.".repeat(126) + "aa";
        for bad in [
            "",
            ".",
            "acme.com.",
            ".acme.com",
            "a..b",
            "Acme.com",
            "acme.com:443",
            "münchen.de",
            "-a.de",
            "a-.de",
            "a_b.de",
            "a b",
            "*.de",
            &long,
            &longer,
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_within_a_suffix_by_whole_labels() {
        let host = |text: &str| text.parse::<HostName>().unwrap();
        assert!(host("acme.app.example").is_within(&host("app.example")));
        assert!(host("app.example").is_within(&host("app.example")));
        assert!(!host("evilapp.example").is_within(&host("app.example")));
        assert!(!host("example").is_within(&host("app.example")));
        assert!(host("10.0.0.1").is_address() && host("a.0x7f").is_address() && !host("1.example").is_address());
    }

    #[test]
    fn subjects_hide_nothing() {
        for good in ["ada", "auth0|12", "ada@acme.example", "jörg", "key_01"] {
            assert!(good.parse::<Subject>().is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a\nb", "a\u{202e}b", "a\u{200b}b", &"a".repeat(256)] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_word_as_it_is_or_refused(text in ".{0,80}") {
            for word in [
                text.parse::<PermissionName>().map(String::from),
                text.parse::<Subject>().map(String::from),
                text.parse::<HostName>().map(String::from),
            ].into_iter().flatten() {
                prop_assert_eq!(&word, &text);
            }
        }
    }
}
