//! GRD-PG-902

use crate::rule::{Protects, Rule, Severity};

pub(crate) const RULE: Rule = Rule {
    id: "GRD-PG-902",
    name: "exception_unused",
    severity: Severity::Low,
    protects: Protects::Audit,
    title: "An exception matches no finding",
    docs: "## What

An exception names a rule and an object on which that rule finds nothing, or a rule that does not exist.

## Why

The finding was put right, or the object was renamed, or the exception has a mistake and the finding counts elsewhere. Left
in place, it would hide the same flaw when it comes back.

## Exploit

None by itself.

## Remedy

Take the exception out, or correct its rule and its object: the report names objects as the exception must.

## Near miss

An exception from a rule that could not run stays silent: nobody knows what the rule would have found.
",
    needs: &[],
    check: super::judged_afterwards,
};
