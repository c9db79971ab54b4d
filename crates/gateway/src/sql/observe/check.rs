//! Finds out what would become of a statement: runs it side by side, as the application's own role under every policy that is
//! there, and as the role that serves the application now, at one snapshot of the database.
//!
//! Always in a READ ONLY transaction that is rolled back, under short timeouts. Only a plain query is run at all: one whose
//! plan has nothing but reading steps, and whose functions are PostgreSQL's own and not volatile, by the server's own catalogs.
//! Everything else is explained, which runs nothing.

use aws_lc_rs::digest::{SHA256, digest};
use guardian_model::{
    observation::{ObservationVerdict, ObservedRows},
    snapshot::Secret,
};

use super::{
    kind::Kind,
    plan::Plan,
    server::{Answer, Broken, Complaint, Credentials, Server},
    table::Verdict,
    tap::Heard,
    text,
};
use crate::sql::{shared::Route, worker::capability};

/// How long a statement of the observer may take.
pub(crate) const STATEMENT_MS_MAX: u32 = 1000;
/// How long it may wait for a lock.
pub(crate) const LOCK_MS_MAX: u32 = 100;
/// Rows that are compared, and those that are counted behind them.
const ROWS_COMPARED: u32 = 1000;
const ROWS_COUNTED: u32 = 100_000;
/// The longest part of an error that is kept.
const MESSAGE_CHARS_MAX: usize = 200;
/// Objects with lower numbers came with the server.
const FIRST_OWN_OID: u32 = 16_384;
/// Separates items of a list in a parameter.
const SEPARATOR: &str = "\u{1f}";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A statement to look at.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) fingerprint: u64,
    pub(crate) heard: Heard,
    pub(crate) kind: Kind,
    /// The tenant's capability and register; `None`: no tenant was named.
    pub(crate) tenant: Option<(Secret, String)>,
}

/// The two connections.
pub(crate) struct Checker {
    enforced: Server,
    present: Server,
    /// Operators or casts of the application's own may do anything: then no query is run.
    has_odd_operators: bool,
    application_role: String,
}

/// What a query returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Returned {
    rows: u32,
    /// Of the first rows, in any order.
    digest: u128,
}

fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().collect::<Vec<_>>().join(SEPARATOR)
}

/// What of an error may be told: its words where they name objects only.
fn reason(complaint: &Complaint) -> String {
    match complaint.code.as_str() {
        "42501" | "42P01" | "3F000" => complaint.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        "57014" => format!("it takes longer than {STATEMENT_MS_MAX} ms"),
        "55P03" => format!("a lock was not to be had within {LOCK_MS_MAX} ms"),
        code => format!("the server answers with the error {code}"),
    }
}

fn cannot_tell(complaint: &Complaint) -> Verdict {
    Verdict::new(ObservationVerdict::NotLookedAt, reason(complaint)).with_sqlstate(&complaint.code)
}

impl Checker {
    pub(crate) fn open(route: &Route, enforced: &Credentials, present: &Credentials) -> Result<Self, Broken> {
        let application_role = enforced.role.clone();
        let (enforced, mut present) = (Server::open(route, enforced)?, Server::open(route, present)?);
        let odd = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
                            WHERE o.oid >= {FIRST_OWN_OID} AND p.provolatile = 'v')
                 OR EXISTS (SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
                            WHERE c.oid >= {FIRST_OWN_OID} AND p.provolatile = 'v')"
        );
        let rows = present.rows(&odd)?.map_err(|complaint| Broken::Refused(complaint.message))?;
        let has_odd_operators = rows.first().and_then(|row| row.first()).is_none_or(|odd| odd.as_deref() != Some("f"));
        Ok(Self { enforced, present, has_odd_operators, application_role })
    }

    /// What would become of it.
    pub(crate) fn check(&mut self, sample: &Sample) -> Result<Verdict, Broken> {
        let verdict = self.look(sample);
        // Nothing of it is left, whatever came of it.
        self.enforced.begin_anew(None)?;
        self.present.begin_anew(None)?;
        verdict
    }

    fn look(&mut self, sample: &Sample) -> Result<Verdict, Broken> {
        let Some((secret, register)) = &sample.tenant else { return self.without_tenant(sample) };
        match sample.kind {
            Kind::Opaque(why) => return Ok(Verdict::new(ObservationVerdict::NotLookedAt, why)),
            Kind::Defines => {
                let reason =
                    format!("the role {} owns nothing: tables are changed and emptied by migrations", self.application_role);
                return self.refused_by_kind(sample, "42501", reason);
            }
            Kind::CopyIn => {
                let reason = "PostgreSQL refuses COPY FROM on tables under row-level security: use INSERT".to_owned();
                return self.refused_by_kind(sample, "0A000", reason);
            }
            Kind::Query | Kind::Explained => {}
        }
        let Some(capability) = capability(secret) else {
            return Ok(Verdict::new(ObservationVerdict::NotLookedAt, "the tenant's capability is malformed"));
        };
        let Some(query) = Query::of(&sample.heard) else {
            return Ok(Verdict::new(ObservationVerdict::NotLookedAt, "its text or its parameters are not known"));
        };
        let tenant = Some((&*capability, register.as_str()));
        self.enforced.begin_anew(tenant)?;
        self.present.begin_anew(tenant)?;
        // As it is now.
        if let Err(complaint) = self.begin_together()? {
            return Ok(cannot_tell(&complaint));
        }
        let plan = match explain(&mut self.present, &query)? {
            Ok(plan) => plan,
            Err(complaint) => return Ok(cannot_tell(&complaint)),
        };
        let tables = plan.tables();
        // Asked of the catalogs first: a refusal that is known in advance leaves no trace in the server's log.
        if let Some(missing) = self.missing_privilege(sample, &plan)? {
            let verdict = Verdict::new(ObservationVerdict::Refused, missing).with_sqlstate("42501");
            return Ok(verdict.on(tables));
        }
        let enforced = match explain(&mut self.enforced, &query)? {
            Ok(plan) => plan,
            Err(complaint) if matches!(complaint.code.as_str(), "57014" | "55P03") => return Ok(cannot_tell(&complaint)),
            Err(complaint) => {
                let verdict = Verdict::new(ObservationVerdict::Refused, reason(&complaint)).with_sqlstate(&complaint.code);
                return Ok(verdict.on(tables));
            }
        };
        if sample.kind == Kind::Explained {
            return Ok(Verdict::new(ObservationVerdict::Fine, "explained").on(tables));
        }
        if let Some(why) = self.why_not_run(&plan, &enforced)? {
            return Ok(Verdict::new(ObservationVerdict::NotLookedAt, why).on(tables));
        }
        Ok(self.compare(tenant, &query)?.on(tables))
    }

    /// Both connections at one snapshot.
    fn begin_together(&mut self) -> Result<Answer<()>, Broken> {
        if let Err(complaint) = self.present.run(BEGIN)? {
            return Ok(Err(complaint));
        }
        let rows = match self.present.rows("SELECT pg_catalog.pg_export_snapshot()")? {
            Ok(rows) => rows,
            Err(complaint) => return Ok(Err(complaint)),
        };
        let snapshot = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        // It goes into SQL text, which takes no parameter there.
        if snapshot.is_empty() || !snapshot.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(Broken::Malformed);
        }
        if let Err(complaint) = self.enforced.run(BEGIN)? {
            return Ok(Err(complaint));
        }
        self.enforced.run(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'"))
    }

    fn without_tenant(&mut self, sample: &Sample) -> Result<Verdict, Broken> {
        let verdict = Verdict::new(ObservationVerdict::NoTenant, super::NO_TENANT).with_sqlstate("28000");
        let Some(query) = Query::of(&sample.heard).filter(|_| matches!(sample.kind, Kind::Query | Kind::Explained)) else {
            let tables = self.tables_named(sample)?;
            return Ok(verdict.on(tables));
        };
        self.present.begin_anew(None)?;
        if self.present.run(BEGIN)?.is_err() {
            return Ok(verdict);
        }
        let tables = explain(&mut self.present, &query)?.map(|plan| plan.tables()).unwrap_or_default();
        Ok(verdict.on(tables))
    }

    fn refused_by_kind(&mut self, sample: &Sample, code: &str, reason: String) -> Result<Verdict, Broken> {
        let tables = self.tables_named(sample)?;
        Ok(Verdict::new(ObservationVerdict::Refused, reason).with_sqlstate(code).on(tables))
    }

    /// Tables whose names are words of the statement: for a person, where the server says nothing of tables.
    fn tables_named(&mut self, sample: &Sample) -> Result<Vec<String>, Broken> {
        let names = text::names(&text::shown(sample.heard.text()).full);
        let names = list(names.iter().map(String::as_str));
        let found = self.present.rows_with(
            "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = ANY (pg_catalog.string_to_array($1, E'\\x1f')) AND c.relkind IN ('r', 'p')
               AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'guardian') ORDER BY 1 LIMIT 20",
            &[&names],
        )?;
        Ok(found.unwrap_or_default().into_iter().flatten().flatten().collect())
    }

    /// What the application's own role may not do, by the catalogs. A view reads with its owner's rights: then only the server
    /// can tell.
    fn missing_privilege(&mut self, sample: &Sample, plan: &Plan) -> Result<Option<String>, Broken> {
        let uses: Vec<_> = plan.uses.iter().filter(|used| !used.privilege.is_empty()).collect();
        let names = text::names(&text::shown(sample.heard.text()).full);
        let parameters = [
            list(uses.iter().map(|used| used.schema.as_str())),
            list(uses.iter().map(|used| used.table.as_str())),
            list(uses.iter().map(|used| used.privilege)),
            list(names.iter().map(String::as_str)),
        ];
        let missing = self.enforced.rows_with(
            "SELECT u.privilege, n.nspname || '.' || c.relname
             FROM ROWS FROM (pg_catalog.unnest(pg_catalog.string_to_array($1, E'\\x1f')),
                             pg_catalog.unnest(pg_catalog.string_to_array($2, E'\\x1f')),
                             pg_catalog.unnest(pg_catalog.string_to_array($3, E'\\x1f'))) u (schema_name, table_name, privilege)
             JOIN pg_catalog.pg_namespace n ON n.nspname = u.schema_name
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = u.table_name
             WHERE NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                        AND CASE u.privilege WHEN 'DELETE' THEN pg_catalog.has_table_privilege(c.oid, 'DELETE')
                            ELSE pg_catalog.has_any_column_privilege(c.oid, u.privilege) END)
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_class v WHERE v.relkind IN ('v', 'm') AND v.oid >= 16384
                               AND v.relname = ANY (pg_catalog.string_to_array($4, E'\\x1f')))
             ORDER BY 2, 1 LIMIT 1",
            &[&parameters[0], &parameters[1], &parameters[2], &parameters[3]],
        )?;
        let row = missing.unwrap_or_default().into_iter().next();
        Ok(row.and_then(|row| match row.as_slice() {
            [Some(privilege), Some(table)] => {
                Some(format!("the role {} has no {privilege} on {table}", self.application_role))
            }
            _ => None,
        }))
    }

    /// Why a query must not be run a second time.
    fn why_not_run(&mut self, present: &Plan, enforced: &Plan) -> Result<Option<String>, Broken> {
        if present.is_more_than_a_query || enforced.is_more_than_a_query {
            return Ok(Some("it does more than read tables, so it was explained and not run".to_owned()));
        }
        if self.has_odd_operators {
            return Ok(Some("there are volatile operators or casts in the database, so no query is run".to_owned()));
        }
        let called = list(present.called.iter().chain(&enforced.called).map(String::as_str));
        let odd = self.present.rows_with(
            &format!(
                "SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                 WHERE p.proname = ANY (pg_catalog.string_to_array($1, E'\\x1f'))
                   AND (p.provolatile = 'v' OR p.oid >= {FIRST_OWN_OID}) AND n.nspname <> 'guardian' ORDER BY 1 LIMIT 1"
            ),
            &[&called],
        )?;
        let odd = match odd {
            Ok(rows) => rows.into_iter().flatten().flatten().next(),
            Err(complaint) => return Ok(Some(reason(&complaint))),
        };
        Ok(odd.map(|function| format!("it calls {function}(), so it was explained and not run")))
    }

    fn compare(&mut self, tenant: Option<(&[u8; 32], &str)>, query: &Query<'_>) -> Result<Verdict, Broken> {
        let present = match run(&mut self.present, query)? {
            Ok(returned) => returned,
            // A table made of a query is none.
            Err(complaint) if complaint.code == "42601" => {
                let why = "it is a query only in part, so it was explained and not run";
                return Ok(Verdict::new(ObservationVerdict::NotLookedAt, why));
            }
            Err(complaint) => return Ok(cannot_tell(&complaint)),
        };
        let enforced = match run(&mut self.enforced, query)? {
            Ok(returned) => returned,
            Err(complaint) if matches!(complaint.code.as_str(), "57014" | "55P03") => return Ok(cannot_tell(&complaint)),
            Err(complaint) => {
                let verdict = Verdict::new(ObservationVerdict::Refused, reason(&complaint));
                return Ok(verdict.with_sqlstate(&complaint.code));
            }
        };
        let rows = Some(ObservedRows { enforced: enforced.rows, now: present.rows });
        let (verdict, reason) = if enforced.rows < present.rows {
            let more = if present.rows > ROWS_COMPARED + ROWS_COUNTED { "more than " } else { "" };
            let verdict = if enforced.rows == 0 { ObservationVerdict::Empty } else { ObservationVerdict::Fewer };
            let counted = present.rows.min(ROWS_COMPARED + ROWS_COUNTED);
            (verdict, format!("would come back with {} of {more}{counted} rows", enforced.rows))
        } else if enforced.rows == present.rows && enforced.digest == present.digest {
            (ObservationVerdict::Fine, "the same rows".to_owned())
        } else if enforced.rows > ROWS_COMPARED {
            (ObservationVerdict::NotLookedAt, format!("it returns more than {ROWS_COMPARED} rows"))
        } else if self.varies(tenant, query)? {
            (ObservationVerdict::NotLookedAt, "its result is another one from run to run".to_owned())
        } else {
            (ObservationVerdict::Different, "would come back with other rows or values".to_owned())
        };
        Ok(Verdict { rows, ..Verdict::new(verdict, reason) })
    }

    /// Whether two runs as it is now differ as well.
    fn varies(&mut self, tenant: Option<(&[u8; 32], &str)>, query: &Query<'_>) -> Result<bool, Broken> {
        let mut returned = Vec::new();
        for _ in 0..2 {
            self.present.begin_anew(tenant)?;
            if self.present.run(BEGIN)?.is_err() {
                return Ok(true);
            }
            match run(&mut self.present, query)? {
                Ok(next) => returned.push(next),
                Err(_) => return Ok(true),
            }
        }
        Ok(returned[0] != returned[1])
    }
}

/// A statement as the extended protocol takes it.
struct Query<'a> {
    text: &'a [u8],
    types: &'a [u8],
    /// With results in text.
    values: Vec<u8>,
}

impl<'a> Query<'a> {
    fn of(heard: &'a Heard) -> Option<Self> {
        match heard {
            Heard::Simple(text) => Some(Self { text, types: &[0, 0], values: vec![0; 6] }),
            Heard::Bound { statement, values } => {
                let end = statement.iter().position(|byte| *byte == 0)?;
                let mut without = parameters(values)?.to_vec();
                without.extend_from_slice(&[0, 0]);
                Some(Self { text: &statement[..end], types: &statement[end + 1..], values: without })
            }
            Heard::Unknown => None,
        }
    }
}

/// Formats and values of the parameters, without the formats of the results.
fn parameters(values: &[u8]) -> Option<&[u8]> {
    let count = |at: usize| Some(usize::from(u16::from_be_bytes(values.get(at..at + 2)?.try_into().ok()?)));
    let mut at = 2 + 2 * count(0)?;
    let parameters = count(at)?;
    at += 2;
    for _ in 0..parameters {
        let len = i32::from_be_bytes(values.get(at..at + 4)?.try_into().ok()?);
        at += 4 + usize::try_from(len).unwrap_or(0);
    }
    values.get(..at)
}

fn explain(server: &mut Server, query: &Query<'_>) -> Result<Answer<Plan>, Broken> {
    let sql = [b"EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) ", query.text].concat();
    let mut json = String::new();
    let outcome = server.extended(&sql, query.types, &query.values, |tag, body| {
        if tag == b'D'
            && let Some(Some(line)) = super::server::columns(body).and_then(|row| row.into_iter().next())
        {
            json.push_str(&line);
        }
    })?;
    if let Err(complaint) = outcome {
        return Ok(Err(complaint));
    }
    Ok(Plan::read(&json).ok_or(Complaint { code: "XX000".to_owned(), message: String::new() }))
}

/// Runs a query through a cursor, which takes nothing but a query.
fn run(server: &mut Server, query: &Query<'_>) -> Result<Answer<Returned>, Broken> {
    let sql = [b"DECLARE guardian_observed NO SCROLL CURSOR FOR ", query.text].concat();
    if let Err(complaint) = server.extended(&sql, query.types, &query.values, |_, _| {})? {
        return Ok(Err(complaint));
    }
    let mut returned = Returned { rows: 0, digest: 0 };
    let fetch = format!("FETCH FORWARD {} FROM guardian_observed", ROWS_COMPARED + 1);
    let outcome = server.extended(fetch.as_bytes(), &[0, 0], &[0; 6], |tag, body| {
        if tag == b'D' {
            returned.rows += 1;
            let hash = digest(&SHA256, body);
            let first = hash.as_ref().first_chunk::<16>().copied().unwrap_or_default();
            returned.digest = returned.digest.wrapping_add(u128::from_be_bytes(first));
        }
    })?;
    if let Err(complaint) = outcome {
        return Ok(Err(complaint));
    }
    if returned.rows > ROWS_COMPARED {
        let mut moved = 0;
        let sql = format!("MOVE FORWARD {ROWS_COUNTED} IN guardian_observed");
        let outcome = server.extended(sql.as_bytes(), &[0, 0], &[0; 6], |tag, body| {
            let words = body.strip_suffix(&[0]).unwrap_or(body);
            if tag == b'C'
                && let Some(count) = std::str::from_utf8(words).ok().and_then(|words| words.strip_prefix("MOVE "))
            {
                moved = count.parse().unwrap_or(0);
            }
        })?;
        if let Err(complaint) = outcome {
            return Ok(Err(complaint));
        }
        returned.rows += moved;
    }
    server.run("CLOSE guardian_observed").map(|outcome| outcome.map(|()| returned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_end_where_the_formats_of_results_begin() {
        // One format, two parameters (one of them NULL), two formats of results.
        let front = [&[0, 1, 0, 1, 0, 2][..], &[0, 0, 0, 3], b"abc", &[0xff; 4]].concat();
        let values = [&front[..], &[0, 2, 0, 1, 0, 1]].concat();
        assert_eq!(parameters(&values), Some(&front[..]));
        for len in 0..front.len() {
            assert_eq!(parameters(&values[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn an_error_is_told_in_its_own_words_only_where_they_name_objects() {
        let complaint = |code: &str| Complaint { code: code.to_owned(), message: "a secret".to_owned() };
        assert_eq!(reason(&complaint("42501")), "a secret");
        for code in ["22P02", "23505", "57014", "55P03", "XX000", "22012"] {
            assert!(!reason(&complaint(code)).contains("secret"), "{code}");
        }
    }
}
