//! GRD-PG-513

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-513",
    name: "publication",
    severity: Severity::Note,
    protects: Protects::Rows,
    title: "A publication carries tenant tables out of the database",
    docs: "## What

A publication has tenant tables. When it is FOR ALL TABLES, which takes in tables that do not exist yet, the finding is of low severity.

## Why

Subscribers get every tenant's rows: policies apply to no publication. Whoever has a replication login reads them all, and the subscriber's side needs policies of its own.

## Exploit

```sql
CREATE SUBSCRIPTION s CONNECTION 'host=db user=replicator' PUBLICATION everything;   -- elsewhere, without any policy
```

## Remedy

Drop it where nobody subscribes any more; or name the tables, with row filters (15 and newer) where a subscriber is for some tenants only.

## Near miss

A publication of tables without a tenant column stays silent.
",
    needs: &[Source::Publications, Source::Columns],
    check,
};

/// Names in the evidence; the rest is counted.
const NAMES_MAX: usize = 5;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let judged = facts.publications.iter().filter_map(|publication| {
        let tables = publication.tables.iter().filter(|table| audit.tenancy.is_tenants(**table));
        let names: Vec<String> =
            tables.filter_map(|table| facts.relation(*table)).map(|table| readable_in(&table.schema, &table.name)).collect();
        if names.is_empty() && !publication.all_tables {
            return None;
        }
        let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let kind = if publication.all_tables { "it is FOR ALL TABLES" } else { "it has tenant tables" };
        let evidence = match names.len() {
            0 => kind.to_owned(),
            all if all > NAMES_MAX => format!("{kind}: {shown} and {} more", all - NAMES_MAX),
            _ => format!("{kind}: {shown}"),
        };
        let sql = format!("DROP PUBLICATION {};", quote::ident(&publication.name));
        let hit = Hit::on(Object::named(ObjectKind::Publication, &publication.name), evidence);
        let hit = hit.remedy(sql).note("its subscribers get nothing any more");
        Some(if publication.all_tables { hit.severity(Severity::Low) } else { hit })
    });
    judged.collect()
}
