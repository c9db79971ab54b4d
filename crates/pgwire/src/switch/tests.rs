use proptest::prelude::*;

use super::*;

fn tenant(text: &str) -> Option<String> {
    match own(text.as_bytes()) {
        Some(Own::SetTenant(value)) => Some(value.into_owned()),
        _ => None,
    }
}

#[test]
fn a_tenant_is_set() {
    for text in [
        "SET guardian.tenant = 'acme'",
        "set guardian.tenant='acme'",
        "SET guardian.tenant TO 'acme';",
        "  SET\tSESSION\nGUARDIAN.Tenant\r\nTo'acme' ; \x0c",
        "SET guardian.tenant = acme",
        "SET guardian.tenant TO ACME;",
        "SET guardian.tenant=Acme",
    ] {
        assert_eq!(tenant(text).as_deref(), Some("acme"), "{text}");
        assert!(resembles(text.as_bytes()), "{text}");
    }
    assert_eq!(tenant("SET guardian.tenant = 'o''neill'").as_deref(), Some("o'neill"));
    assert_eq!(tenant("SET guardian.tenant = ''''").as_deref(), Some("'"));
    assert_eq!(tenant("SET guardian.tenant = ''").as_deref(), Some(""));
    assert_eq!(tenant("SET guardian.tenant = 'a; -- $1 /* b */ $$'").as_deref(), Some("a; -- $1 /* b */ $$"));
    assert_eq!(tenant("SET guardian.tenant = _a1").as_deref(), Some("_a1"));
    assert_eq!(tenant("SET guardian.tenant = session").as_deref(), Some("session"));
}

#[test]
fn the_others_are_read() {
    assert_eq!(own(b"SET guardian.identity = 'eyJ.x.y'"), Some(Own::SetIdentity("eyJ.x.y".into())));
    assert_eq!(own(b"SET SESSION guardian.identity TO 'eyJ.x.y';"), Some(Own::SetIdentity("eyJ.x.y".into())));
    assert_eq!(own(b" show GUARDIAN.tenant ;"), Some(Own::ShowTenant));
    assert_eq!(own(b"RESET guardian.tenant"), Some(Own::ResetTenant));
}

#[test]
fn a_name_is_given_up() {
    let name = |text: &'static str| deallocated(text.as_bytes());
    for text in ["DEALLOCATE s_1", "deallocate prepare S_1 ;", "  DEALLOCATE \"s_1\"", "DEALLOCATE PREPARE\"s_1\";"] {
        assert_eq!(name(text).as_deref(), Some("s_1"), "{text}");
    }
    assert_eq!(name("DEALLOCATE \"S 1\"").as_deref(), Some("S 1"));
    for text in
        ["DEALLOCATE ALL", "DEALLOCATE", "DEALLOCATE a, b", "DEALLOCATE a; SELECT 1", "DEALLOCATE \"a\"\"b\"", "DROP a"]
    {
        assert_eq!(name(text), None, "{text}");
    }
}

#[test]
fn values_are_borrowed_where_they_can_be() {
    let borrowed = |text: &'static [u8]| matches!(own(text), Some(Own::SetTenant(Cow::Borrowed(_))));
    assert!(borrowed(b"SET guardian.tenant = 'acme'"));
    assert!(borrowed(b"SET guardian.tenant = acme"));
    assert!(!borrowed(b"SET guardian.tenant = 'o''neill'"));
}

#[test]
fn what_resembles_one_is_told_apart() {
    for text in [
        "SET LOCAL guardian.tenant = 'acme'",
        "SET guardian.tenant",
        "SET guardian.tenant 'acme'",
        "SET guardian.tenant =",
        "SET guardian.tenant = ;",
        "SET guardian.tenant == 'acme'",
        "SET guardian.tenant := 'acme'",
        "SET guardian.tenant TOacme",
        "SET guardian.tenant = 'acme",
        "SET guardian.tenant = 'acme''",
        "SET guardian.tenant = 'acme' 'x'",
        "SET guardian.tenant = 'acme'\n'x'",
        "SET guardian.tenant = 'acme', 'x'",
        "SET guardian.tenant = 'acme';;",
        "SET guardian.tenant = 'acme'; SELECT 1",
        "SET guardian.tenant = 'acme' -- x",
        "SET guardian.tenant = 'acme'; --",
        "SET guardian.tenant /**/ = 'acme'",
        "SET guardian.tenant = /**/ 'acme'",
        "SET /* x */ guardian.tenant = 'acme'",
        "/* a /* nested */ one */ SET guardian.tenant = 'acme'",
        "-- x\nSET guardian.tenant = 'acme'",
        "SET guardian.tenant = E'acme'",
        "SET guardian.tenant = e'acme'",
        "SET guardian.tenant = U&'acme'",
        "SET guardian.tenant = N'acme'",
        "SET guardian.tenant = $$acme$$",
        "SET guardian.tenant = $1",
        "SET guardian.tenant = 1",
        "SET guardian.tenant = a$b",
        "SET guardian.tenant = a-b",
        "SET guardian.tenant = aé",
        "SET guardian.tenant = \"acme\"",
        "SET guardian.tenant = DEFAULT",
        "SET guardian.tenant = 'a\\'",
        "SET guardian.tenant = 'a\\'' b'",
        "SET guardian.tenant = 'a\0'",
        "SET guardian.tenant = 'a'\0",
        "SET guardian.tenant = \u{a0}'a'",
        "SET guardian.tenant\x0b= 'a'",
        "SET guardian.tenants = 'acme'",
        "SET guardian.tenant.x = 'acme'",
        "SET guardian . tenant = 'acme'",
        "SET guardian. tenant = 'acme'",
        "SET guardian .tenant = 'acme'",
        "SET \"guardian\".tenant = 'acme'",
        "SET \"guardian.tenant\" = 'acme'",
        "SET SESSION SESSION guardian.tenant = 'acme'",
        "SHOW guardian.identity",
        "RESET guardian.identity",
        "RESET SESSION guardian.tenant",
        "SHOW guardian.tenant 'x'",
        "SHOW guardian.tenant; SHOW guardian.tenant",
        "SET guardian.",
    ] {
        assert_eq!(own(text.as_bytes()), None, "{text}");
        if !text.contains("SESSION SESSION") {
            assert!(resembles(text.as_bytes()), "{text}");
        }
    }
    assert_eq!(own(b"SET guardian.tenant = 'h\xe9'"), None);
    assert!(resembles(b"SET guardian.tenant = 'h\xe9'"));
}

#[test]
fn other_statements_are_none() {
    for text in [
        "",
        ";",
        " ",
        "SELECT 1",
        "SET",
        "SET guardian",
        "SETguardian.tenant = 'a'",
        "SET\u{a0}guardian.tenant = 'a'",
        "SET tenant = 'a'",
        "SET myguardian.tenant = 'a'",
        "SET guardians.tenant = 'a'",
        "SET search_path = guardian",
        "SHOW ALL",
        "RESET ALL",
        "SHOW POOLS",
        "; SET guardian.tenant = 'a'",
        "SELECT 1; SET guardian.tenant = 'a'",
        "SELECT 'SET guardian.tenant = ''a'''",
        "BEGIN; SET guardian.tenant = 'a'",
        "PREPARE x AS SET guardian.tenant = 'a'",
        "EXPLAIN SET guardian.tenant = 'a'",
        "SELECT set_config('guardian.tenant', 'a', false)",
        "-- SET guardian.tenant = 'a'",
        "/* SET guardian.tenant = 'a' */",
        "/* SET guardian.tenant = 'a'",
    ] {
        assert_eq!(own(text.as_bytes()), None, "{text}");
        assert!(!resembles(text.as_bytes()), "{text}");
    }
}

fn blank() -> impl Strategy<Value = String> {
    "[ \t\n\r\x0c]{1,3}"
}

proptest! {
    #[test]
    fn a_statement_of_any_spelling_has_its_value(
        verb in "[sS][eE][tT]", session in prop::option::of("[sS][eE][sS][sS][iI][oO][nN]"), setting in "[gG]uardian\\.[tT]enan[tT]",
        equals in any::<bool>(), value in "[^\\\\\0]{0,12}", space in blank(), end in "[ \n]{0,2};?[ \n]{0,2}",
    ) {
        let literal = format!("'{}'", value.replace('\'', "''"));
        let session = session.map(|word| format!("{word}{space}")).unwrap_or_default();
        let sign = if equals { "=".to_owned() } else { format!("{space}to") };
        let text = format!("{space}{verb}{space}{session}{setting}{sign}{literal}{end}");
        prop_assert_eq!(tenant(&text), Some(value));
        prop_assert!(resembles(text.as_bytes()));
        for behind in ["; SELECT 1", ";;", "--", "/**/", "$$", "$1", "'", "x", "\0", ", 'b'"] {
            prop_assert_eq!(tenant(&format!("{text}{behind}")), None);
        }
        for before in ["SELECT 1;", ";", "--\n", "/**/", "BEGIN;", "$$", "x "] {
            prop_assert_eq!(tenant(&format!("{before}{text}")), None);
        }
    }

    #[test]
    fn pieces_make_one_or_none(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..8)) {
        let text = pieces.concat();
        prop_assert_eq!(own(text.as_bytes()).is_some(), is_one(&pieces), "{}", text);
        prop_assert!(own(text.as_bytes()).is_none() || resembles(text.as_bytes()));
    }
}

/// Chosen so that no two of them make a third.
const PIECES: &[&str] = &["SET ", "SHOW ", "guardian.tenant ", "= ", "'a' ", "; ", "-- ", "$$ ", "$1 "];

fn is_one(pieces: &[&str]) -> bool {
    let statement = pieces.strip_suffix(&["; "]).unwrap_or(pieces);
    // A word is a value too, and PostgreSQL reserves neither of these.
    let values = ["'a' ", "SET ", "SHOW "];
    values.iter().any(|value| statement == ["SET ", "guardian.tenant ", "= ", value])
        || statement == ["SHOW ", "guardian.tenant "]
}
