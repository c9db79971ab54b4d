//! The settings a server reports (`ParameterStatus`), which a client may rely on across pooled connections.

use std::sync::Arc;

/// Reported settings that nobody can set in a session.
const FIXED: [&str; 7] = [
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "scram_iterations",
    "server_encoding",
    "server_version",
    "session_authorization",
];

/// Names and values, in the order of the names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Settings(Vec<(Arc<str>, Arc<str>)>);

impl Settings {
    /// These settings with one of them changed; the same value when it is so already.
    #[must_use]
    pub(crate) fn with(self: &Arc<Self>, name: &[u8], value: &[u8]) -> Arc<Self> {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let mut settings = Self::clone(self);
        match settings.0.binary_search_by(|(known, _)| known.as_ref().cmp(&name)) {
            Ok(at) if *settings.0[at].1 == *value => return Arc::clone(self),
            Ok(at) => settings.0[at].1 = value.into(),
            Err(at) => settings.0.insert(at, (name.into(), value.into())),
        }
        Arc::new(settings)
    }

    /// One value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Every setting.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// What has to be set where `other` holds, so that these hold.
    pub(crate) fn differing_from<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter(|(name, value)| !FIXED.contains(name) && other.get(name) != Some(value))
    }
}

/// Whether a name may be set in a client's start-up packet. The rest would change who the session is, or is not a setting.
pub(crate) fn may_be_set(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    is_name
        && !name.starts_with("guardian.")
        && !matches!(name.as_str(), "role" | "session_authorization" | "replication")
        && !FIXED.contains(&name.as_str())
}

/// Settings whose value is a list of identifiers: `SET` would take the text for one of them.
const LISTS: [&str; 4] = ["local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"];

/// Statements that set them for the session; empty for none. `SET` needs no plan, which `SELECT set_config` does. The values
/// are ASCII, and escaped in the one form whose meaning hangs on no setting.
pub(crate) fn statement<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in settings {
        if LISTS.iter().any(|list| list.eq_ignore_ascii_case(name)) {
            text.push_str("SELECT pg_catalog.set_config(");
            literal(&mut text, name);
            text.push_str(", ");
            literal(&mut text, value);
            text.push_str(", false);");
        } else {
            text.push_str("SET ");
            for (at, part) in name.split('.').enumerate() {
                text.push_str(if at == 0 { "\"" } else { ".\"" });
                text.push_str(&part.replace('"', "\"\""));
                text.push('"');
            }
            text.push_str(" = ");
            literal(&mut text, value);
            text.push(';');
        }
    }
    text
}

/// What stands between the values in the answer to [`question`].
pub(crate) const SEPARATOR: char = '\u{1f}';

/// A query for what a server makes of settings, in one column behind an empty one. It leaves nothing behind. `date_style` is the
/// one of a new session: what a client leaves out of its own is taken from there, not from the session before.
pub(crate) fn question(date_style: Option<&str>, wishes: &[(String, String)]) -> String {
    let mut text = "SELECT pg_catalog.concat_ws(E'\\x1f', pg_catalog.left(pg_catalog.set_config('DateStyle', ".to_owned();
    literal(&mut text, date_style.unwrap_or("ISO, MDY"));
    text.push_str(", true), 0)");
    for (name, value) in wishes {
        text.push_str(", pg_catalog.set_config(");
        literal(&mut text, name);
        text.push_str(", ");
        literal(&mut text, value);
        text.push_str(", true)");
    }
    text.push(')');
    text
}

fn literal(text: &mut String, value: &str) {
    text.push_str("E'");
    for character in value.chars() {
        match character {
            '\'' => text.push_str("''"),
            '\\' => text.push_str("\\\\"),
            // PostgreSQL does the same to names of applications.
            other if !other.is_ascii() => text.push('?'),
            other => text.push(other),
        }
    }
    text.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_literal() {
        let text = statement([("application_name", "a'; DROP TABLE x; --\\'é")]);
        assert_eq!(text, r#"SET "application_name" = E'a''; DROP TABLE x; --\\''?';"#);
        assert_eq!(statement([("App.x", "1")]), r#"SET "App"."x" = E'1';"#);
        assert_eq!(statement([("Search_Path", "a, b")]), "SELECT pg_catalog.set_config(E'Search_Path', E'a, b', false);");
        assert_eq!(statement([]), "");
    }

    #[test]
    fn a_question_leaves_nothing_behind() {
        let wishes = [("DateStyle".to_owned(), "iso".to_owned()), ("a".to_owned(), "', false) --".to_owned())];
        assert_eq!(
            question(Some("SQL, DMY"), &wishes),
            "SELECT pg_catalog.concat_ws(E'\\x1f', pg_catalog.left(pg_catalog.set_config('DateStyle', E'SQL, DMY', true), 0), \
             pg_catalog.set_config(E'DateStyle', E'iso', true), \
             pg_catalog.set_config(E'a', E''', false) --', true))"
        );
    }

    #[test]
    fn a_difference_names_what_can_be_set() {
        let base = Arc::new(Settings::default()).with(b"TimeZone", b"UTC").with(b"server_version", b"15.1");
        let own = base.with(b"TimeZone", b"Europe/Vienna").with(b"server_version", b"15.2");
        assert_eq!(own.differing_from(&base).collect::<Vec<_>>(), [("TimeZone", "Europe/Vienna")]);
        assert!(Arc::ptr_eq(&base, &base.with(b"TimeZone", b"UTC")));
    }

    #[test]
    fn who_the_session_is_cannot_be_set() {
        for name in ["role", "ROLE", "session_authorization", "guardian.tenant", "a b", "", "is_superuser"] {
            assert!(!may_be_set(name), "{name}");
        }
        for name in ["TimeZone", "extra_float_digits", "app.request"] {
            assert!(may_be_set(name), "{name}");
        }
    }
}
