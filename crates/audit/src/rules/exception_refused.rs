//! GRD-PG-904

use crate::rule::{Protects, Rule, Severity};

pub(crate) const RULE: Rule = Rule {
    id: "GRD-PG-904",
    name: "exception_refused",
    severity: Severity::Medium,
    protects: Protects::Audit,
    title: "A comment asks for an exception and is not granted one",
    docs: "## What

A comment has `guardian:allow` in it, but not in the form that is understood (a rule, a date, a reason), or it is on an object
that the audited role owns, and so could have commented on itself.

## Why

What looks like an exception and is none misleads whoever reads the schema. And whoever takes over the application must not be
able to switch the auditor off.

## Exploit

```sql
COMMENT ON TABLE orders IS 'guardian:allow GRD-PG-001 until 2099-12-31 because nothing to see here';
```

## Remedy

Correct the comment: `guardian:allow GRD-PG-000 until 2027-01-31 because REASON`, on a line of its own. On an object that the
application owns, change the owner, or write the exception into the file.

## Near miss

A comment without `guardian:allow` is nobody's business, and one on an object whose owner the application cannot become counts.
",
    needs: &[],
    check: super::judged_afterwards,
};
