//! Values for a column by its type, likeliest first: the first that the table's constraints accept is taken.

use std::collections::BTreeMap;

use guardian_postgres::quote::literal;
use serde::Deserialize;

use super::canary::{Marks, Tenant};
use crate::facts::{Column, Oid};

/// What is known of the types, beyond the facts.
#[derive(Debug, Default)]
pub(crate) struct Types {
    by_oid: BTreeMap<Oid, Type>,
    domains: BTreeMap<String, Domain>,
}

#[derive(Debug, Deserialize)]
struct Type {
    oid: Oid,
    name: String,
    kind: char,
    element: Option<String>,
    labels: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Domain {
    written: String,
    /// Its base type as written.
    base: String,
    checks: Vec<String>,
}

pub(crate) const TYPES: &str = "SELECT coalesce(json_agg(json_build_object('oid', t.oid::int8, 'name', t.typname, \
    'kind', t.typtype, 'element', e.typname, 'labels', (SELECT coalesce(json_agg(l.enumlabel ORDER BY l.enumsortorder), '[]') \
      FROM pg_catalog.pg_enum AS l WHERE l.enumtypid = t.oid))), '[]')::text FROM pg_catalog.pg_type AS t \
    LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A' \
    WHERE t.oid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute AS a WHERE a.attnum > 0) OR t.typtype IN ('e', 'r') \
      OR t.oid IN (SELECT d.typbasetype FROM pg_catalog.pg_type AS d WHERE d.typtype = 'd')";

pub(crate) const DOMAINS: &str = "SELECT coalesce(json_agg(json_build_object('written', pg_catalog.format_type(t.oid, NULL), \
    'base', pg_catalog.format_type(t.typbasetype, t.typtypmod), 'checks', (SELECT coalesce(json_agg( \
      pg_catalog.pg_get_constraintdef(k.oid)), '[]') FROM pg_catalog.pg_constraint AS k WHERE k.contypid = t.oid))), '[]')::text \
    FROM pg_catalog.pg_type AS t WHERE t.typtype = 'd'";

impl Types {
    pub(crate) fn parse(types: &str, domains: &str) -> Result<Self, serde_json::Error> {
        let types: Vec<Type> = serde_json::from_str(types)?;
        let domains: Vec<Domain> = serde_json::from_str(domains)?;
        Ok(Self {
            by_oid: types.into_iter().map(|one| (one.oid, one)).collect(),
            domains: domains.into_iter().map(|one| (one.written.clone(), one)).collect(),
        })
    }

    pub(crate) fn is_domain(&self, column: &Column) -> bool {
        self.domains.contains_key(&column.written_type)
    }

    /// Text literals with their casts. `hints` are literals out of the table's constraints.
    pub(crate) fn candidates(
        &self,
        column: &Column,
        hints: &[String],
        marks: &Marks,
        tenant: Tenant,
        n: u32,
    ) -> Vec<String> {
        let domain = self.domains.get(&column.written_type);
        let written = domain.map_or(column.written_type.as_str(), |domain| domain.base.as_str());
        let Some(base) = self.by_oid.get(&column.base_type) else { return vec!["NULL".to_owned()] };
        let mut hints = hints.to_vec();
        hints.extend(domain.into_iter().flat_map(|domain| domain.checks.iter().flat_map(|check| literals(check))));
        let mut raw = match base.kind {
            'e' => base.labels.clone(),
            // One that overlaps no other row's, where the type has it: an exclusion constraint is an oracle by what overlaps.
            'r' => {
                let (next, year) = (n + 1, 1000 + n % 8000);
                vec![format!("[{n},{next})"), format!("[{year:04}-01-01,{year:04}-01-02)"), "empty".into()]
            }
            'm' => vec!["{}".into()],
            _ => scalar(base, written, &hints, marks, tenant, n),
        };
        let mut seen = std::collections::BTreeSet::new();
        raw.retain(|value| seen.insert(value.clone()));
        let mut candidates: Vec<String> =
            raw.iter().map(|value| format!("{}::{}", literal(value).trim_start(), column.written_type)).collect();
        if !column.not_null {
            candidates.push("NULL".to_owned());
        }
        candidates
    }
}

fn scalar(base: &Type, written: &str, hints: &[String], marks: &Marks, tenant: Tenant, n: u32) -> Vec<String> {
    let word = marks.word(tenant, n);
    let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let numbers = |first: String| {
        let mut all = vec![first];
        all.extend(hints.iter().filter(|hint| hint.parse::<f64>().is_ok()).cloned());
        all.extend(strings(&["1", "2", "3", "0", "10", "100", "1000", "-1"]));
        all
    };
    match base.name.as_str() {
        "uuid" => vec![marks.uuid(tenant, n)],
        "int8" => numbers(marks.bigint(tenant, n).to_string()),
        "int4" => numbers(marks.integer(tenant, n).to_string()),
        "int2" => numbers((10_000 + n % 20_000).to_string()),
        "float4" | "float8" => numbers(format!("{n}.5")),
        "numeric" => numbers(numeric(written, marks, tenant, n)),
        "bool" => strings(&["false", "true"]),
        "text" | "varchar" | "bpchar" | "citext" | "name" => texts(written, hints, &word, n),
        "json" | "jsonb" => {
            vec![
                format!("{{\"canary\": \"{word}\"}}"),
                format!("[\"{word}\"]"),
                format!("\"{word}\""),
                "{}".into(),
                "[]".into(),
            ]
        }
        "bytea" => [8, 32, 16, 20, 64, 12, 1].iter().map(|len| format!("\\x{word:0<width$}", width = len * 2)).collect(),
        "date" => dated(hints, "2026-01-15"),
        "timestamp" | "timestamptz" => dated(hints, "2026-01-15 12:00:00+00"),
        "time" | "timetz" => strings(&["12:00:00+00"]),
        "interval" => strings(&["1 hour"]),
        "inet" | "cidr" => vec![format!("10.{}.{}.{}", n / 65_536 % 256, n / 256 % 256, n % 256)],
        "macaddr" => vec![format!("02:00:00:{:02x}:{:02x}:{:02x}", n / 65_536 % 256, n / 256 % 256, n % 256)],
        "tsvector" => vec![word],
        "xml" => vec![format!("<canary>{word}</canary>")],
        "money" => numbers("1".into()),
        "bit" | "varbit" => strings(&["1", "10101010"]),
        "point" => strings(&["(1,2)"]),
        _ => match base.element.as_deref() {
            Some("text" | "varchar" | "bpchar" | "citext" | "name") => vec![format!("{{{word}}}"), "{}".into()],
            Some("uuid") => vec![format!("{{{}}}", marks.uuid(tenant, n)), "{}".into()],
            Some("int8" | "int4" | "int2" | "numeric") => strings(&["{1}", "{}"]),
            Some(_) => strings(&["{}"]),
            None => vec![
                word.clone(),
                "0".into(),
                "{}".into(),
                format!("\"canary\"=>\"{word}\""),
                "[1,2,3]".into(),
                "POINT(0 0)".into(),
                "(1,2)".into(),
            ],
        },
    }
}

fn dated(hints: &[String], usual: &str) -> Vec<String> {
    let is_date = |hint: &&String| hint.len() >= 10 && hint.as_bytes()[4] == b'-' && hint.is_ascii();
    let mut all = vec![usual.to_owned(), "2100-01-01".to_owned()];
    all.extend(hints.iter().filter(is_date).cloned());
    all.push("2000-01-01".to_owned());
    all
}

fn texts(written: &str, hints: &[String], word: &str, n: u32) -> Vec<String> {
    let pair: String = [n / 26 % 26, n % 26].iter().filter_map(|at| char::from_u32(u32::from('A') + at)).collect();
    let mut all = vec![
        word.to_owned(),
        format!("{word}@example.com"),
        word.to_uppercase(),
        format!("https://{word}.example.com/"),
        pair.to_lowercase(),
        pair,
    ];
    all.extend(hints.iter().cloned());
    all.extend(["+441632960000", "2026-01-15", "1", "x", "X", "0", ""].map(str::to_owned));
    let Some(max) = length_max(written) else { return all };
    // Of a value that is too long the end, which is what differs.
    let cut = |value: String| value.chars().rev().take(max).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    all.into_iter().map(cut).collect()
}

/// 10 of `character varying(10)`.
fn length_max(written: &str) -> Option<usize> {
    written.split_once('(')?.1.split([',', ')']).next()?.trim().parse().ok()
}

fn numeric(written: &str, marks: &Marks, tenant: Tenant, n: u32) -> String {
    let scale = written.split_once(',').and_then(|(_, scale)| scale.trim_end_matches(')').trim().parse().ok()).unwrap_or(0);
    match length_max(written).map(|precision| precision.saturating_sub(scale)) {
        None | Some(16..) => marks.bigint(tenant, n).to_string(),
        Some(10..) => marks.integer(tenant, n).to_string(),
        Some(digits) => (n % 10_u32.pow(u32::try_from(digits).unwrap_or(1).min(4))).to_string(),
    }
}

/// The literals in an expression as PostgreSQL writes it: hints for values that a constraint accepts.
pub(crate) fn literals(expression: &str) -> Vec<String> {
    const MAX: usize = 40;
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find('\'') {
        let body = &rest[start + 1..];
        let mut value = String::new();
        let mut characters = body.char_indices().peekable();
        let mut end = body.len();
        while let Some((at, character)) = characters.next() {
            if character != '\'' {
                value.push(character);
            } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
                value.push('\'');
            } else {
                end = at + 1;
                break;
            }
        }
        found.push(value);
        rest = &body[end..];
    }
    let digits = expression.split(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|text| text.parse::<f64>().is_ok());
    found.extend(digits.map(str::to_owned));
    found.truncate(MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_a_constraint_are_hints() {
        let check = "CHECK ((kind = ANY (ARRAY['it''s'::text, 'b'::text])) AND (n > 15))";
        assert_eq!(literals(check), ["it's", "b", "15"]);
        assert!(literals("'unterminated").len() == 1);
    }

    #[test]
    fn lengths_are_read_off_the_type() {
        assert_eq!(length_max("character varying(10)"), Some(10));
        assert_eq!(length_max("text"), None);
        assert!(texts("character(2)", &[], "cb0123", 5).iter().all(|text| text.len() <= 2));
    }
}
