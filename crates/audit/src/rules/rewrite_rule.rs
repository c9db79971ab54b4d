//! GRD-PG-309

use guardian_postgres::quote;

use super::rights::exempt;
use crate::{
    facts::{Catalog, Privilege, Relation, RewriteRule, Source},
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-309",
    name: "rewrite_rule",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A rewrite rule acts on a tenant table with the rights of an owner that its policies do not hold back",
    docs: "## What

A rule (`CREATE RULE`) stands on a relation that the application may write; it or its relation is about a tenant table, and that
table's policies do not hold the relation's owner back.

## Why

What a rule adds to a statement is checked as the owner of the rule's relation, not as whoever runs the statement. Its own conditions
are all that keep it within a tenant, and rules repeat expressions in ways that surprise.

## Exploit

```sql
CREATE RULE log AS ON UPDATE TO settings DO ALSO UPDATE orders SET note = NEW.value;   -- every tenant's orders
UPDATE settings SET value = 'x';
```

## Remedy

Drop the rule; a trigger whose function has its caller's rights can do the same.

## Near miss

A rule whose relation belongs to a role that the policies hold back stays silent.
",
    needs: &[Source::Columns, Source::RewriteRules, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let found = facts.rewrite_rules.iter().filter_map(|rule| {
        let on = facts.relation(rule.relation)?;
        let privilege = match rule.event {
            '2' => Privilege::Update,
            '3' => Privilege::Insert,
            '4' => Privilege::Delete,
            _ => return None,
        };
        let path = audit.reach.relation(on).privilege(privilege)?;
        let (table, why) = open_table(audit, rule, on)?;
        let name = readable_in(&table.schema, &table.name);
        let owner = facts.role_name(on.owner);
        let hit = Hit::on(
            Object::part(ObjectKind::RewriteRule, &rule.name, on),
            format!("it acts on {name} as {owner:?}, which {why}; its conditions are not judged"),
        );
        let sql = format!("DROP RULE {} ON {};", quote::ident(&rule.name), quote::qualified(&on.schema, &on.name));
        Some(hit.path(path.then(format!("{name} as {owner}"))).remedy(sql).note("what the rule did is then no longer done"))
    });
    found.collect()
}

/// `pg_depend` has the relations that a rule's actions name, but not its own relation, which counts as named.
fn open_table<'f>(audit: &Audit<'f>, rule: &RewriteRule, on: &'f Relation) -> Option<(&'f Relation, &'static str)> {
    let facts = audit.facts;
    let named = facts.references_of(Catalog::View, rule.relation).iter().filter(|one| one.to == Catalog::Relation);
    let relations = named.filter_map(|one| facts.relation(one.referenced)).chain([on]);
    relations
        .filter(|table| table.kind.is_table() && audit.tenancy.is_tenants(table.oid))
        .filter(|table| table.rls || audit.reach.relation(table).rows().is_none())
        .find_map(|table| Some((table, exempt(audit, on.owner, table)?)))
}
