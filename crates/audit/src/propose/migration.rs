//! The migration: the tenant column in every table of tenants, filled through the parents in batches, and the proof that no
//! row is without a tenant or refers to another's. Keys and policies are the hardening's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use guardian_postgres::quote::{bounded_name, ident, literal, qualified};

use super::{Class, Proposal, Table, Way, graph::Graph};
use crate::{
    facts::{Constraint, ConstraintKind, Facts, Oid, RelationKind, Trigger},
    finding::{readable, readable_in},
    report::escape::line,
};

/// Pages of a table (8 kB each) that one transaction fills: some ten thousand rows.
const PAGES_AT_ONCE: u32 = 200;

impl Proposal {
    /// The text of the migration, for the facts that the proposal was made of. Every statement can be run again.
    pub fn migration(&self, facts: &Facts) -> String {
        let writer = Writer { proposal: self, facts, graph: Graph::of(facts) };
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writer.write(&mut text);
        text
    }
}

struct Writer<'a> {
    proposal: &'a Proposal,
    facts: &'a Facts,
    graph: Graph<'a>,
}

impl Writer<'_> {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let column = line(&self.proposal.tenant.column);
        writeln!(text, "-- guardian: no-transaction")?;
        writeln!(text, "-- Says of every row of a tenant whose it is: the column `{column}`, filled through the parents.")?;
        writeln!(
            text,
            "-- Proposed by `guardian init`; read it, and run it on a copy first. It is not one transaction, so that no lock is"
        )?;
        writeln!(
            text,
            "-- held for long; every statement can be run again. While it runs, rows that are inserted get no tenant: stop the"
        )?;
        writeln!(text, "-- application's writes, or run it again until the checks in it go through.")?;
        writeln!(text, "-- By `guardian migrate`, or: psql --set ON_ERROR_STOP=1 --file THIS_FILE\n")?;
        writeln!(text, "SET lock_timeout = '5s';")?;
        writeln!(text, "-- Policies that hide rows from this session must make it fail, not fill fewer rows.")?;
        writeln!(text, "SET row_security = off;")?;
        self.root(text)?;
        let ordered = self.in_order();
        for table in &ordered {
            self.column(text, table)?;
        }
        self.checks(text, &ordered)?;
        self.indexes(text, &ordered)?;
        self.foreign_keys(text)?;
        self.undecided(text)?;
        writeln!(text, "\nRESET row_security;\nRESET lock_timeout;")?;
        writeln!(
            text,
            "-- Next: composite keys, policies and privileges. `guardian plan` shows them, `guardian apply` makes them."
        )
    }

    /// The tenants' own table gets the column under the same name, so that foreign keys compare tenant with tenant.
    fn root(&self, text: &mut String) -> std::fmt::Result {
        let Some(root) = self.proposal.tables.iter().find(|table| table.class == Class::Root) else { return Ok(()) };
        let Some(key) = &self.proposal.root_key else { return Ok(()) };
        let (name, column) = (sql_name(root), ident(&self.proposal.tenant.column));
        writeln!(
            text,
            "\n-- {}: the tenants themselves. Each row is the tenant's that it stands for, so the column repeats the key.",
            called(root)
        )?;
        writeln!(text, "-- The table is written anew under a lock: it has a row a tenant.")?;
        writeln!(
            text,
            "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column} {} GENERATED ALWAYS AS ({}) STORED NOT NULL;",
            self.proposal.column_type,
            ident(key)
        )?;
        let index = bounded_name(&format!("{}_{}_guardian_key", root.name, self.proposal.tenant.column));
        writeln!(text, "-- Foreign keys will refer to it.")?;
        writeln!(
            text,
            "CREATE UNIQUE INDEX {}IF NOT EXISTS {} ON {name} ({column});",
            self.concurrently(root),
            ident(&index)
        )
    }

    /// Parents before children.
    fn in_order(&self) -> Vec<&Table> {
        let by_oid: BTreeMap<Oid, &Table> = self.proposal.tables.iter().map(|table| (table.oid, table)).collect();
        let mut levels: BTreeMap<Oid, usize> = BTreeMap::new();
        let mut tables: Vec<&Table> = self.proposal.tables.iter().filter(|table| table.class.is_owned()).collect();
        for table in &tables {
            level(table, &by_oid, &mut levels);
        }
        tables.sort_by_key(|table| levels.get(&table.oid).copied());
        tables
    }

    fn column(&self, text: &mut String, table: &Table) -> std::fmt::Result {
        let Class::Through { ways } = &table.class else { return Ok(()) };
        let (name, column) = (sql_name(table), ident(&self.proposal.tenant.column));
        writeln!(text, "\n-- {}: through its parent. Confidence: {}.", called(table), table.confidence.as_str())?;
        for evidence in &table.evidence {
            writeln!(text, "--   {}", line(evidence))?;
        }
        let fire = self.triggers(table.oid);
        if !fire.is_empty() {
            writeln!(
                text,
                "-- These triggers fire for every row that is filled: {}. If they must not, put",
                line(&fire.join(", "))
            )?;
            writeln!(text, "-- ALTER TABLE {} DISABLE TRIGGER USER before, and ENABLE TRIGGER USER after.", line(&name))?;
        }
        writeln!(text, "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column} {};", self.proposal.column_type)?;
        ways.iter().try_for_each(|way| self.fill(text, table, way))
    }

    /// In transactions of a few pages each; a last one for rows that were written meanwhile.
    fn fill(&self, text: &mut String, table: &Table, way: &Way) -> std::fmt::Result {
        let column = ident(&self.proposal.tenant.column);
        let joined: Vec<String> = way
            .columns
            .iter()
            .zip(&way.parent_columns)
            .map(|(own, other)| format!("child.{} = parent.{}", ident(own), ident(other)))
            .collect();
        let update = format!(
            "UPDATE {} AS child SET {column} = parent.{column} FROM {} AS parent\n      WHERE {} AND child.{column} IS NULL AND parent.{column} IS NOT NULL",
            sql_name(table),
            qualified(&way.parent_schema, &way.parent),
            joined.join(" AND "),
        );
        let body = format!(
            "DECLARE\n  page bigint := 0;\n  pages bigint;\nBEGIN\n  \
             WITH RECURSIVE part AS (SELECT {}::regclass::oid AS oid\n    \
             UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN part ON part.oid = i.inhparent)\n  \
             SELECT max(coalesce(pg_relation_size(oid), 0)) / current_setting('block_size')::bigint INTO pages FROM part;\n  \
             WHILE page <= pages LOOP\n    {update}\n        \
             AND child.ctid >= format('(%s,0)', page)::tid AND child.ctid < format('(%s,0)', page + {PAGES_AT_ONCE})::tid;\n    \
             COMMIT;\n    page := page + {PAGES_AT_ONCE};\n  END LOOP;\n  {};\nEND",
            literal(&sql_name(table)).trim_start(),
            update.replace("\n      ", "\n    ")
        );
        writeln!(text, "{}", anonymous(&body))
    }

    fn checks(&self, text: &mut String, tables: &[&Table]) -> std::fmt::Result {
        let column = ident(&self.proposal.tenant.column);
        let owned: BTreeMap<Oid, &Table> = tables.iter().map(|table| (table.oid, *table)).collect();
        writeln!(text, "\n-- Nothing may be left without a tenant.")?;
        for table in tables {
            let is_nullable = || {
                let own = self.facts.column_named(table.oid, &self.proposal.tenant.column);
                own.is_some_and(|own| !own.not_null)
            };
            if matches!(table.class, Class::Root) || !(table.gets_column || is_nullable()) {
                continue;
            }
            let name = sql_name(table);
            let hint = format!(
                "say whose they are (UPDATE {name} SET {column} = … WHERE {column} IS NULL) or delete them, then run this file again"
            );
            let count = format!("SELECT count(*) INTO found FROM {name} WHERE {column} IS NULL");
            let message = format!(" rows of {} have no tenant", called(table));
            writeln!(text, "{}", refuse(&count, &message, &hint))?;
        }
        let mut references = String::new();
        for table in tables {
            for constraint in self.facts.constraints_of(table.oid) {
                self.check_reference(&mut references, table, constraint, &owned)?;
            }
        }
        if !references.is_empty() {
            writeln!(text, "\n-- No row may refer to another tenant's: the composite foreign keys will not have it.")?;
            text.push_str(&references);
        }
        Ok(())
    }

    fn check_reference(
        &self,
        text: &mut String,
        table: &Table,
        foreign: &Constraint,
        owned: &BTreeMap<Oid, &Table>,
    ) -> std::fmt::Result {
        let tenant = &self.proposal.tenant.column;
        let target = foreign.target.and_then(|target| owned.get(&target));
        let Some(target) = target.filter(|_| foreign.kind == ConstraintKind::Foreign && !foreign.inherited) else {
            return Ok(());
        };
        let columns = self.graph.columns(table.oid, &foreign.columns);
        let targets = self.graph.columns(target.oid, &foreign.target_columns);
        // Those that compare the tenant cannot be wrong, nor those that it was just filled by.
        let filled_by = match &table.class {
            Class::Through { ways } if ways.len() == 1 && ways[0].required => Some(&ways[0].columns),
            _ => None,
        };
        if columns.contains(tenant) || (table.gets_column && filled_by == Some(&columns)) {
            return Ok(());
        }
        let joined: Vec<String> = columns
            .iter()
            .zip(&targets)
            .map(|(own, other)| format!("child.{} = parent.{}", ident(own), ident(other)))
            .collect();
        let column = ident(tenant);
        let count = format!(
            "SELECT count(*) INTO found FROM {} AS child JOIN {} AS parent ON {}\n    WHERE child.{column} <> parent.{column}",
            sql_name(table),
            sql_name(target),
            joined.join(" AND ")
        );
        let message = format!(" rows of {} refer to another tenant's row of {}", called(table), called(target));
        let hint = format!("correct `{}` of these rows, then run this file again", columns.join(", "));
        writeln!(text, "{}", refuse(&count, &message, &hint))
    }

    /// Where no key will begin with the tenant.
    fn indexes(&self, text: &mut String, tables: &[&Table]) -> std::fmt::Result {
        let has_key: BTreeSet<Oid> =
            self.proposal.keys.iter().filter(|key| key.global.is_none()).map(|key| key.table_oid).collect();
        let mut is_first = true;
        for table in tables.iter().filter(|table| table.class != Class::Root && !has_key.contains(&table.oid)) {
            let own = self.facts.column_named(table.oid, &self.proposal.tenant.column).map(|column| column.number);
            let is_led = |number: i16| {
                let indexes = self.facts.indexes_of(table.oid).iter();
                indexes.filter(|index| index.valid && !index.partial).any(|index| index.columns.first() == Some(&number))
            };
            if own.is_some_and(is_led) {
                continue;
            }
            if std::mem::take(&mut is_first) {
                writeln!(
                    text,
                    "\n-- Policies look for the tenant's rows; these tables have no key that will begin with the tenant."
                )?;
            }
            let index = bounded_name(&format!("{}_{}_idx", table.name, self.proposal.tenant.column));
            writeln!(
                text,
                "CREATE INDEX {}IF NOT EXISTS {} ON {} ({});",
                self.concurrently(table),
                ident(&index),
                sql_name(table),
                ident(&self.proposal.tenant.column)
            )?;
        }
        Ok(())
    }

    /// From the tenants' key to the column of the same name.
    fn foreign_keys(&self, text: &mut String) -> std::fmt::Result {
        let Some(root) = self.proposal.tables.iter().find(|table| table.class == Class::Root) else { return Ok(()) };
        let Some(key) = &self.proposal.root_key else { return Ok(()) };
        let column = &self.proposal.tenant.column;
        let mut is_first = true;
        for table in self.proposal.tables.iter().filter(|table| table.class == Class::Tenant) {
            for foreign in self.facts.constraints_of(table.oid) {
                let moves = foreign.kind == ConstraintKind::Foreign
                    && !foreign.inherited
                    && foreign.target == Some(root.oid)
                    && self.graph.columns(table.oid, &foreign.columns) == std::slice::from_ref(column)
                    && self.graph.columns(root.oid, &foreign.target_columns) == std::slice::from_ref(key);
                if !moves {
                    continue;
                }
                if std::mem::take(&mut is_first) {
                    writeln!(
                        text,
                        "\n-- These foreign keys refer to the tenants' key; from here on to the column that repeats it."
                    )?;
                }
                let (name, constraint) = (sql_name(table), ident(&foreign.name));
                let is_partitioned = self.facts.relation(table.oid).is_some_and(|one| one.kind == RelationKind::Partitioned);
                // Before 18, a foreign key of a partitioned table cannot be NOT VALID.
                let not_valid = if is_partitioned { "" } else { " NOT VALID" };
                writeln!(
                    text,
                    "ALTER TABLE {name} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint}\n  \
                     FOREIGN KEY ({0}) REFERENCES {1} ({0}){2}{not_valid};",
                    ident(column),
                    sql_name(root),
                    actions(foreign)
                )?;
                if !is_partitioned {
                    writeln!(text, "ALTER TABLE {name} VALIDATE CONSTRAINT {constraint};")?;
                }
            }
        }
        Ok(())
    }

    fn undecided(&self, text: &mut String) -> std::fmt::Result {
        let column = ident(&self.proposal.tenant.column);
        let mut is_first = true;
        for table in self.proposal.tables.iter().filter(|table| table.class == Class::Undecided) {
            if std::mem::take(&mut is_first) {
                writeln!(
                    text,
                    "\n-- Undecided. Say in guardian.toml that a table is global, or give it the column and say whose its rows are:"
                )?;
            }
            writeln!(text, "--\n-- {}", called(table))?;
            for evidence in &table.evidence {
                writeln!(text, "--   {}", line(evidence))?;
            }
            let name = line(&sql_name(table));
            writeln!(
                text,
                "-- ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {} {};",
                line(&column),
                self.proposal.column_type
            )?;
            writeln!(text, "-- UPDATE {name} SET {} = …;", line(&column))?;
        }
        Ok(())
    }

    /// The triggers of people that an UPDATE fires, by name.
    fn triggers(&self, table: Oid) -> Vec<String> {
        const UPDATE: i16 = 1 << 4;
        let fires = |trigger: &&Trigger| trigger.bits & UPDATE != 0 && matches!(trigger.enabled, 'O' | 'A');
        self.facts.triggers_of(table).iter().filter(fires).map(|trigger| readable(&trigger.name)).collect()
    }

    /// A partitioned table allows none of it.
    fn concurrently(&self, table: &Table) -> &'static str {
        let is_partitioned = self.facts.relation(table.oid).is_some_and(|one| one.kind == RelationKind::Partitioned);
        if is_partitioned { "" } else { "CONCURRENTLY " }
    }
}

fn level(table: &Table, by_oid: &BTreeMap<Oid, &Table>, levels: &mut BTreeMap<Oid, usize>) -> usize {
    if let Some(level) = levels.get(&table.oid) {
        return *level;
    }
    let own = match &table.class {
        // A table is owned only through tables that were owned before it, so this ends.
        Class::Through { ways } => {
            let parents = ways.iter().filter_map(|way| by_oid.get(&way.parent_oid));
            1 + parents.map(|parent| level(parent, by_oid, levels)).max().unwrap_or(0)
        }
        Class::Root | Class::Tenant | Class::Global { .. } | Class::Undecided => 0,
    };
    levels.insert(table.oid, own);
    own
}

fn sql_name(table: &Table) -> String {
    qualified(&table.schema, &table.name)
}

fn called(table: &Table) -> String {
    line(&readable_in(&table.schema, &table.name))
}

/// What stands after the columns of a foreign key of one column.
fn actions(foreign: &Constraint) -> String {
    let action = |action: Option<char>| match action {
        Some('r') => Some("RESTRICT"),
        Some('c') => Some("CASCADE"),
        Some('n') => Some("SET NULL"),
        Some('d') => Some("SET DEFAULT"),
        _ => None,
    };
    let mut text = String::new();
    for (event, action) in [("DELETE", action(foreign.on_delete)), ("UPDATE", action(foreign.on_update))] {
        if let Some(action) = action {
            let _ = write!(text, " ON {event} {action}");
        }
    }
    // After the last column nothing in the definition is a name, and these words come last.
    let definition = foreign.definition.trim_end_matches(" NOT VALID");
    if definition.ends_with(" DEFERRABLE INITIALLY DEFERRED") {
        text.push_str(" DEFERRABLE INITIALLY DEFERRED");
    } else if definition.ends_with(" DEFERRABLE") {
        text.push_str(" DEFERRABLE");
    }
    text
}

/// A block that fails when the count is not 0.
fn refuse(count: &str, message: &str, hint: &str) -> String {
    anonymous(&format!(
        "DECLARE\n  found bigint;\nBEGIN\n  {count};\n  IF found > 0 THEN\n    \
         RAISE EXCEPTION USING MESSAGE = found || {}, HINT = {};\n  END IF;\nEND",
        literal(message).trim_start(),
        literal(hint).trim_start()
    ))
}

/// `DO`, quoted by dollars in a way that no name in the body can end.
fn anonymous(body: &str) -> String {
    // Of so many tags, a body of this length cannot hold all.
    let tag = (0..=body.len())
        .map(|n| if n == 0 { "$guardian$".to_owned() } else { format!("$guardian{n}$") })
        .find(|tag| !body.contains(tag.as_str()))
        .unwrap_or_else(|| "$guardian$".to_owned());
    format!("DO {tag}\n{body}\n{tag};")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_a_block() {
        assert_eq!(anonymous("a $guardian$ b"), "DO $guardian1$\na $guardian$ b\n$guardian1$;");
    }
}
