//! GRD-PG-901

use crate::rule::{Protects, Rule, Severity};

pub(crate) const RULE: Rule = Rule {
    id: "GRD-PG-901",
    name: "exception_expired",
    severity: Severity::Medium,
    protects: Protects::Audit,
    title: "An exception has expired",
    docs: "## What

An exception, in the file or as a comment on the object, has an `until` that lies before today.

## Why

An exception is a debt with a date. On the day after it, the finding counts again, and the exception itself is told so that
somebody decides anew.

## Exploit

None by itself: what the exception covered is reported on its own.

## Remedy

Put the finding right and take the exception out, or give it a new date and a reason that still holds.

## Near miss

On the day that `until` names the exception still counts.
",
    needs: &[],
    check: super::judged_afterwards,
};
