//! GRD-PG-903

use crate::rule::{Protects, Rule, Severity};

pub(crate) const RULE: Rule = Rule {
    id: "GRD-PG-903",
    name: "rule_not_run",
    severity: Severity::Medium,
    protects: Protects::Audit,
    title: "A rule could not run",
    docs: "## What

The role that collected the facts may not read what a rule needs, or reading it failed. The finding is as severe as the rule
that did not run, because that is what may be hidden.

## Why

A rule that was left out silently would make the report greener than the database is.

## Exploit

None by itself; what the rule would have found is unknown.

## Remedy

Audit as a role that may read the source which the evidence names: a superuser, or, for `hba_rules`, a role with SELECT on
`pg_hba_file_rules` and EXECUTE on `pg_hba_file_rules()`. Where a hosted service gives nobody these rights, write an exception
with the reason, and look at the settings by other means.

## Near miss

A source that is merely empty, such as a database without foreign servers, is read, and its rules run.
",
    needs: &[],
    check: super::judged_afterwards,
};
