//! What PostgreSQL itself makes of a policy's predicate on rows that do not exist.

use serde::{Deserialize, Serialize};

use sqlx::PgConnection;

use super::{
    Oid,
    collect::{execute, text_of},
};

/// Which predicate of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredicateKind {
    /// A policy's USING.
    Using,
    /// A policy's WITH CHECK.
    Check,
}

/// The verdict on one predicate. With `undecided`, the other fields say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent observations")]
pub struct Truth {
    /// The policy.
    pub policy: Oid,
    /// Which predicate of it.
    pub predicate: PredicateKind,
    /// True on every row tried, in every context tried.
    pub always_true: bool,
    /// True on some row although no tenant was set.
    pub true_without_context: bool,
    /// True on a row of a tenant other than the one that was set.
    pub true_for_other_tenant: bool,
    /// True on a row whose columns are all null.
    pub true_on_null: bool,
    /// Settings that make it true for another tenant when set to an ordinary flag value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<String>,
    /// Why there is no verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<String>,
}

/// A policy's predicate, and the rows to try it on.
#[derive(Deserialize)]
pub(super) struct Predicate {
    policy: Oid,
    #[serde(rename = "predicate")]
    kind: PredicateKind,
    expression: String,
    /// Why it must not be evaluated.
    refused: Option<String>,
    /// The table's columns with a null each, as a row source by the table's name.
    nulls: String,
    /// The same with a value in each column whose type is known here.
    values: String,
    /// The table's name, quoted where it must be.
    alias: String,
}

/// What a predicate calls is read from its tree, in which constants are bytes, so that no text can pose as a call. Whoever
/// may write a policy must not get code run with the collector's rights: only system functions that are not volatile are, and
/// not those that run a query or read a table, in which more code may stand.
const PREDICATES: &str = "SELECT p.oid::int8 AS policy, e.predicate, pg_get_expr(e.tree, p.polrelid) AS expression, \
    CASE WHEN e.tree::text ~ '\\{(SUBLINK|QUERY) ' THEN 'it has a subquery' \
      WHEN e.tree::text ~ '\\{COERCETODOMAIN ' THEN 'it converts to a domain' \
      WHEN f.names IS NOT NULL THEN 'it calls ' || f.names END AS refused, \
    (SELECT string_agg(format('NULL::%s AS %I', format_type(a.atttypid, a.atttypmod), a.attname), ', ') \
       FROM pg_attribute AS a WHERE a.attrelid = p.polrelid AND a.attnum > 0 AND NOT a.attisdropped) AS nulls, \
    (SELECT string_agg(format('%s::%s AS %I', CASE a.atttypid WHEN 2950 THEN quote_literal('0190b6a0-0000-7000-8000-0000000000fe') \
         WHEN 20 THEN '7000017' WHEN 23 THEN '7000017' WHEN 21 THEN '7017' WHEN 25 THEN quote_literal('7000017') \
         WHEN 1043 THEN quote_literal('7000017') WHEN 16 THEN 'false' ELSE 'NULL' END, \
         format_type(a.atttypid, a.atttypmod), a.attname), ', ') \
       FROM pg_attribute AS a WHERE a.attrelid = p.polrelid AND a.attnum > 0 AND NOT a.attisdropped) AS values, \
    quote_ident(c.relname) AS alias \
  FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid, \
    LATERAL (VALUES ('using', p.polqual), ('check', p.polwithcheck)) AS e (predicate, tree), \
    LATERAL (SELECT string_agg(DISTINCT coalesce(x.oid::regprocedure::text, m[1]), ', ') AS names \
      FROM regexp_matches(e.tree::text, ':(?:op)?funcid ([0-9]+)', 'g') AS m LEFT JOIN pg_proc AS x ON x.oid = m[1]::oid \
      WHERE x.oid IS NULL OR x.oid >= 16384 OR x.provolatile = 'v' \
        OR x.proname ~ '(_to_xml|xmlschema)') AS f \
  WHERE e.tree IS NOT NULL ORDER BY p.oid, e.predicate DESC";

pub(super) fn predicates() -> &'static str {
    PREDICATES
}

/// Tries each predicate on a row of nulls and on one of another tenant, with no tenant context. The statements run in the
/// collector's read-only transaction, each below a savepoint.
pub(super) async fn evaluate(connection: &mut PgConnection, predicates: Vec<Predicate>) -> Result<Vec<Truth>, sqlx::Error> {
    let mut truths = Vec::with_capacity(predicates.len());
    for predicate in predicates {
        let Predicate { policy, kind, expression, refused, nulls, values, alias } = predicate;
        let mut truth = Truth {
            policy,
            predicate: kind,
            always_true: false,
            true_without_context: false,
            true_for_other_tenant: false,
            true_on_null: false,
            opened_by: Vec::new(),
            undecided: refused,
        };
        if truth.undecided.is_none() {
            let nulls = is_true(connection, &expression, &nulls, &alias).await?;
            let values = is_true(connection, &expression, &values, &alias).await?;
            truth.true_on_null = nulls;
            truth.true_without_context = nulls || values;
            truth.true_for_other_tenant = values;
            truth.always_true = nulls && values;
        }
        truths.push(truth);
    }
    Ok(truths)
}

/// An error is no truth: `current_setting` of a setting that is not there raises, and so keeps the row back.
async fn is_true(connection: &mut PgConnection, expression: &str, row: &str, alias: &str) -> Result<bool, sqlx::Error> {
    execute(connection, "SAVEPOINT truth; SET LOCAL statement_timeout = '1s'").await?;
    let sql = format!("SELECT (({expression}) IS TRUE)::text FROM (SELECT {row}) AS {alias}");
    let answer = text_of(connection, &sql).await;
    execute(connection, "ROLLBACK TO SAVEPOINT truth; RELEASE SAVEPOINT truth").await?;
    match answer {
        Ok(answer) => Ok(answer == "true"),
        Err(sqlx::Error::Database(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
