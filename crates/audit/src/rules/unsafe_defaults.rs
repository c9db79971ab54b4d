//! GRD-PG-504

use super::session_defaults::session_defaults;
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-504",
    name: "unsafe_defaults",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "The application's sessions begin with a setting that opens or breaks something",
    docs: "## What

A setting with which the application's sessions begin (by the role, the database or the server) has a value that takes a
protection away. There is one finding for each setting; the severity is that of what it does.

## Why

- `session_replication_role = replica`: foreign keys and ordinary triggers do not fire.
- `lo_compat_privileges`: the privileges of large objects are not looked at.
- `allow_system_table_mods`: catalogs can be changed by accident.
- `standard_conforming_strings = off`, `backslash_quote = on`: text that a driver quoted can break out.
- `row_security = off`: each statement that a policy would hold back raises an error.
- `dynamic_library_path`, `local_preload_libraries`: code from other places is loaded into sessions.
- `debug_print_*`: statements with their values stand in the server's log.
- `password_encryption = md5`: new passwords are kept as hashes that are passwords themselves.

## Exploit

```sql
SHOW session_replication_role;   -- replica
DELETE FROM customers WHERE id = '…';   -- and no foreign key says a word
```

## Remedy

Take the setting back where it stands.

## Near miss

The same value for a role that is not the application's, and a value that stands behind a better one, stay silent.
",
    needs: &[Source::Settings, Source::RoleSettings],
    check,
};

/// When a value is bad.
#[derive(Clone, Copy)]
enum Bad {
    On,
    Off,
    Is(&'static str),
    /// Anything but this.
    IsNot(&'static str),
}

impl Bad {
    fn holds(self, value: &str) -> bool {
        let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        match self {
            Self::On => is(&["on", "true", "yes", "1"]),
            Self::Off => is(&["off", "false", "no", "0"]),
            Self::Is(word) => is(&[word]),
            Self::IsNot(word) => !is(&[word]),
        }
    }
}

/// Name, when it is bad, what it should be, severity, and what it does.
const SETTINGS: &[(&str, Bad, &str, Severity, &str)] = &[
    (
        "session_replication_role",
        Bad::Is("replica"),
        "origin",
        Severity::High,
        "foreign keys and ordinary triggers do not fire",
    ),
    ("lo_compat_privileges", Bad::On, "off", Severity::High, "the privileges of large objects are not looked at"),
    ("allow_system_table_mods", Bad::On, "off", Severity::Medium, "catalogs can be changed by accident"),
    ("standard_conforming_strings", Bad::Off, "on", Severity::Medium, "a backslash in quoted text can break out of it"),
    ("backslash_quote", Bad::On, "safe_encoding", Severity::Medium, "a quoted quote can break out in some encodings"),
    ("row_security", Bad::Off, "on", Severity::Low, "each statement that a policy would hold back raises an error"),
    ("dynamic_library_path", Bad::IsNot("$libdir"), "$libdir", Severity::Low, "libraries are loaded from other folders too"),
    ("local_preload_libraries", Bad::IsNot(""), "", Severity::Low, "libraries are loaded into every session"),
    ("debug_print_parse", Bad::On, "off", Severity::Low, "statements with their values stand in the server's log"),
    ("debug_print_rewritten", Bad::On, "off", Severity::Low, "statements with their values stand in the server's log"),
    ("debug_print_plan", Bad::On, "off", Severity::Low, "statements with their values stand in the server's log"),
    ("password_encryption", Bad::Is("md5"), "scram-sha-256", Severity::Low, "new passwords are kept as md5"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let judged =
        SETTINGS.iter().flat_map(|row| session_defaults(audit, row.0).into_iter().map(move |default| (row, default)));
    judged
        .filter(|((_, bad, ..), default)| bad.holds(default.value))
        .map(|((name, _, good, severity, does), default)| {
            let place = default.place.words(facts);
            let hit =
                Hit::on(Object::named(ObjectKind::Setting, name), format!("{} {place}: {does}", written(default.value)));
            hit.severity(*severity).part(place).remedy(default.place.undo(facts, name, good)).note(default.place.note())
        })
        .collect()
}

fn written(value: &str) -> String {
    if value.is_empty() { "it is empty".to_owned() } else { format!("it is {value}") }
}
