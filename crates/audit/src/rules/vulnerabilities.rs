//! PostgreSQL's published flaws that let SQL of one role past what it may do. No rule itself.
//!
//! Facts are those of PostgreSQL's release notes and of its security page (`postgresql.org/support/security/` and the id), from 13 on.
//! Left out: flaws of clients and of libpq (the server's version says nothing of theirs), of authentication, and those that need a
//! superuser's help. CVE-2024-4317 has a rule of its own, because an update alone does not close it.

use crate::rule::Severity;

/// What a flaw needs besides SQL of the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Row-level security is on somewhere.
    Policies,
    /// The right to make objects, if only temporary ones.
    Objects,
    /// CREATE on the database.
    Schemas,
    /// An extension or language that is installed.
    Extension(&'static str),
    /// REPLICATION
    Replication,
}

/// A flaw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vulnerability {
    /// `CVE-2023-2455`
    pub(super) id: &'static str,
    /// How bad it is for tenants.
    pub(super) severity: Severity,
    /// The first release of each major version that has the fix; versions that are not named have not the flaw.
    pub(super) fixed: &'static [(i32, i32)],
    /// Major versions that have the flaw and get no fix any more.
    pub(super) unfixed: &'static [i32],
    /// What it needs; all of them.
    pub(super) needs: &'static [Need],
    /// What a tenant can do by it.
    pub(super) lets: &'static str,
}

impl Vulnerability {
    /// Whether a release (`server_version_num`) has the flaw.
    pub(super) fn is_in(&self, version: i32) -> bool {
        let (major, minor) = (version / 10_000, version % 10_000);
        self.unfixed.contains(&major) || self.fixed.iter().any(|fix| fix.0 == major && minor < fix.1)
    }
}

/// The fixes of one day, newest first.
const NOVEMBER_2026: &[(i32, i32)] = &[(14, 25), (15, 20), (16, 16), (17, 12), (18, 7)];
const AUGUST_2026: &[(i32, i32)] = &[(14, 24), (15, 19), (16, 15), (17, 11), (18, 6)];
const MAY_2026: &[(i32, i32)] = &[(14, 23), (15, 18), (16, 14), (17, 10), (18, 4)];
const FEBRUARY_2026: &[(i32, i32)] = &[(14, 21), (15, 16), (16, 12), (17, 8), (18, 2)];
const NOVEMBER_2025: &[(i32, i32)] = &[(13, 23), (14, 20), (15, 15), (16, 11), (17, 7), (18, 1)];
const AUGUST_2025: &[(i32, i32)] = &[(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)];
const NOVEMBER_2024: &[(i32, i32)] = &[(13, 17), (14, 14), (15, 9), (16, 5), (17, 1)];
const AUGUST_2024: &[(i32, i32)] = &[(13, 16), (14, 13), (15, 8), (16, 4)];
const FEBRUARY_2024: &[(i32, i32)] = &[(13, 14), (14, 11), (15, 6)];
const NOVEMBER_2023: &[(i32, i32)] = &[(13, 13), (14, 10), (15, 5), (16, 1)];
const MAY_2023: &[(i32, i32)] = &[(13, 11), (14, 8), (15, 3)];

const fn flaw(
    id: &'static str,
    severity: Severity,
    fixed: &'static [(i32, i32)],
    needs: &'static [Need],
    lets: &'static str,
) -> Vulnerability {
    Vulnerability { id, severity, fixed, unfixed: &[], needs, lets }
}

/// The same, of a flaw that 13 has too: its last release was in November 2025.
const fn left_in_13(
    id: &'static str,
    severity: Severity,
    fixed: &'static [(i32, i32)],
    needs: &'static [Need],
    lets: &'static str,
) -> Vulnerability {
    Vulnerability { id, severity, fixed, unfixed: &[13], needs, lets }
}

const RUN_CODE: &str = "run code as the account that PostgreSQL runs as";

/// Newest first.
pub(super) const VULNERABILITIES: &[Vulnerability] = &[
    left_in_13(
        "CVE-2026-120154",
        Severity::Critical,
        NOVEMBER_2026,
        &[Need::Policies],
        "read every row past the policies, by INSERT ... ON CONFLICT DO UPDATE",
    ),
    left_in_13("CVE-2026-120141", Severity::High, NOVEMBER_2026, &[], RUN_CODE),
    left_in_13("CVE-2026-16239", Severity::High, AUGUST_2026, &[], RUN_CODE),
    flaw("CVE-2026-16238", Severity::High, &[(18, 6)], &[Need::Objects], RUN_CODE),
    left_in_13("CVE-2026-15742", Severity::High, AUGUST_2026, &[Need::Extension("fuzzystrmatch")], RUN_CODE),
    left_in_13(
        "CVE-2026-15741",
        Severity::High,
        AUGUST_2026,
        &[Need::Objects],
        "run SQL as whoever dumps or lists its objects",
    ),
    left_in_13("CVE-2026-14680", Severity::High, AUGUST_2026, &[], RUN_CODE),
    left_in_13("CVE-2026-14671", Severity::High, AUGUST_2026, &[Need::Extension("refint"), Need::Objects], RUN_CODE),
    left_in_13("CVE-2026-14670", Severity::High, AUGUST_2026, &[Need::Extension("plperl"), Need::Objects], RUN_CODE),
    left_in_13("CVE-2026-14668", Severity::High, AUGUST_2026, &[Need::Objects], "read the server's memory"),
    left_in_13("CVE-2026-14664", Severity::High, AUGUST_2026, &[], RUN_CODE),
    left_in_13("CVE-2026-14662", Severity::High, AUGUST_2026, &[], RUN_CODE),
    left_in_13("CVE-2026-6471", Severity::High, AUGUST_2026, &[Need::Replication], RUN_CODE),
    left_in_13("CVE-2026-6637", Severity::High, MAY_2026, &[Need::Extension("refint")], RUN_CODE),
    left_in_13("CVE-2026-6474", Severity::Medium, MAY_2026, &[], "read parts of the server's memory"),
    left_in_13("CVE-2026-6473", Severity::High, MAY_2026, &[], RUN_CODE),
    flaw(
        "CVE-2026-6472",
        Severity::Medium,
        MAY_2026,
        &[Need::Objects],
        "put a type into a schema that it may not create in, for others' statements to find",
    ),
    flaw("CVE-2026-2007", Severity::Medium, &[(18, 2)], &[Need::Extension("pg_trgm")], "write into the server's memory"),
    left_in_13("CVE-2026-2006", Severity::High, FEBRUARY_2026, &[], RUN_CODE),
    left_in_13("CVE-2026-2005", Severity::High, FEBRUARY_2026, &[Need::Extension("pgcrypto")], RUN_CODE),
    left_in_13("CVE-2026-2004", Severity::High, FEBRUARY_2026, &[Need::Extension("intarray"), Need::Objects], RUN_CODE),
    left_in_13("CVE-2026-2003", Severity::Low, FEBRUARY_2026, &[], "read a few bytes of the server's memory"),
    flaw(
        "CVE-2025-12817",
        Severity::Low,
        NOVEMBER_2025,
        &[Need::Objects],
        "take names for statistics in schemas that it may not create in",
    ),
    flaw(
        "CVE-2025-8715",
        Severity::High,
        AUGUST_2025,
        &[Need::Objects],
        "run SQL and commands as whoever restores a dump, by an object's name",
    ),
    flaw(
        "CVE-2025-8713",
        Severity::High,
        AUGUST_2025,
        &[Need::Objects],
        "read sampled values that views and the policies of partitions and children hide, by the planner's statistics",
    ),
    flaw("CVE-2024-10979", Severity::High, NOVEMBER_2024, &[Need::Extension("plperl")], RUN_CODE),
    flaw(
        "CVE-2024-10978",
        Severity::Medium,
        NOVEMBER_2024,
        &[],
        "read and change what another role than the intended one may, after SET ROLE was reset",
    ),
    flaw(
        "CVE-2024-10976",
        Severity::High,
        NOVEMBER_2024,
        &[Need::Policies],
        "meet the policies of another role below subqueries, WITH and definer views, where a plan is used again",
    ),
    flaw(
        "CVE-2024-7348",
        Severity::High,
        AUGUST_2024,
        &[Need::Objects],
        "run SQL as whoever runs pg_dump, by putting a view in a table's place meanwhile",
    ),
    flaw(
        "CVE-2024-0985",
        Severity::High,
        FEBRUARY_2024,
        &[Need::Objects],
        "run SQL as whoever refreshes its materialised view concurrently",
    ),
    flaw("CVE-2023-5869", Severity::High, NOVEMBER_2023, &[], RUN_CODE),
    flaw("CVE-2023-5868", Severity::Medium, NOVEMBER_2023, &[], "read parts of the server's memory, by aggregates"),
    flaw(
        "CVE-2023-39418",
        Severity::High,
        &[(15, 4)],
        &[Need::Policies],
        "store rows by MERGE that policies for UPDATE and SELECT forbid",
    ),
    flaw(
        "CVE-2023-2455",
        Severity::High,
        MAY_2023,
        &[Need::Policies],
        "meet the policies of another role where a function was inlined and the plan is used again",
    ),
    flaw(
        "CVE-2023-2454",
        Severity::High,
        MAY_2023,
        &[Need::Schemas],
        "run SQL as the first superuser, by CREATE SCHEMA past a pinned search path",
    ),
    flaw(
        "CVE-2022-2625",
        Severity::High,
        &[(13, 8), (14, 5)],
        &[Need::Objects],
        "run SQL as whoever creates or updates an extension, by an object that stands in its place",
    ),
    flaw(
        "CVE-2022-1552",
        Severity::High,
        &[(13, 7), (14, 3)],
        &[Need::Objects],
        "run SQL as a superuser, by autovacuum, REINDEX and the like on its table",
    ),
    flaw("CVE-2021-3677", Severity::High, &[(13, 4)], &[], "read the server's memory"),
    flaw(
        "CVE-2021-32029",
        Severity::Medium,
        &[(13, 3)],
        &[],
        "read the server's memory, by UPDATE ... RETURNING on partitions",
    ),
    flaw("CVE-2021-32028", Severity::Medium, &[(13, 3)], &[], "read the server's memory, by INSERT ... ON CONFLICT"),
    flaw("CVE-2021-32027", Severity::High, &[(13, 3)], &[], RUN_CODE),
    flaw("CVE-2021-20229", Severity::Medium, &[(13, 2)], &[], "read all columns of a table of which one is granted"),
    flaw(
        "CVE-2021-3393",
        Severity::Low,
        &[(13, 2)],
        &[],
        "see values of columns that are not granted, in errors of partitions",
    ),
    flaw(
        "CVE-2020-25695",
        Severity::High,
        &[(13, 1)],
        &[Need::Objects],
        "run SQL as a superuser, by deferred triggers and index expressions",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn named(id: &str) -> &'static Vulnerability {
        VULNERABILITIES.iter().find(|one| one.id == id).expect("it is in the table")
    }

    #[test]
    fn a_release_has_the_flaws_that_its_notes_fixed_later() {
        assert!(named("CVE-2023-2455").is_in(150_002));
        assert!(!named("CVE-2023-2455").is_in(150_003));
        assert!(!named("CVE-2023-2455").is_in(160_000), "16.0 was made after it");
        assert!(named("CVE-2023-39418").is_in(150_003) && !named("CVE-2023-39418").is_in(140_000));
        assert!(named("CVE-2024-0985").is_in(150_005) && !named("CVE-2024-0985").is_in(160_001));
        assert!(named("CVE-2026-2006").is_in(130_023), "13 gets no fix any more");
        assert!(!named("CVE-2026-6472").is_in(130_023), "13 has no multiranges");
    }

    #[test]
    fn each_flaw_stands_once_and_says_where_it_is_fixed() {
        let ids: BTreeSet<&str> = VULNERABILITIES.iter().map(|one| one.id).collect();
        assert_eq!(ids.len(), VULNERABILITIES.len());
        for one in VULNERABILITIES {
            assert!(one.id.starts_with("CVE-20") && !one.lets.is_empty() && !one.fixed.is_empty(), "{}", one.id);
            assert!(one.fixed.is_sorted_by(|a, b| a.0 < b.0), "{}", one.id);
            assert!(one.unfixed.iter().all(|major| one.fixed.iter().all(|fix| fix.0 != *major)), "{}", one.id);
        }
    }
}
