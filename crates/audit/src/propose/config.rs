//! The proposal as `guardian.toml`, each choice with its reason beside it.

use std::fmt::Write as _;

use super::{Class, Proposal, Table, notes};
use crate::report::escape::line;

/// What the file says that the schema does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings<'a> {
    /// The administrator's URL of the server, without a password.
    pub cluster_url: Option<&'a str>,
    /// The folder with the migration has files of somebody else's, too.
    pub folder_is_shared: bool,
}

impl Proposal {
    /// The text of `guardian.toml`.
    pub fn config(&self, surroundings: Surroundings<'_>) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_config(&mut text, surroundings);
        text
    }

    fn write_config(&self, text: &mut String, surroundings: Surroundings<'_>) -> std::fmt::Result {
        writeln!(text, "# Proposed by `guardian init` for the database {}. Read every line: what is", line(&self.database))?;
        writeln!(text, "# wrong here keeps tenants apart in the wrong way. `guardian plan` shows what comes of it.\n")?;
        if let Some(url) = surroundings.cluster_url {
            writeln!(text, "[clusters.main]")?;
            writeln!(
                text,
                "# The password is not written down here: put it in, or into ~/.pgpass of the user that runs Guardian."
            )?;
            writeln!(text, "url = {}\n", quoted(url))?;
        }
        writeln!(text, "[application]")?;
        writeln!(text, "name = {} # names the roles {}_app …", quoted(&self.application), self.application)?;
        writeln!(text, "database = {}", quoted(&self.database))?;
        writeln!(text, "schema = {}", quoted(&self.schema))?;
        let elsewhere: Vec<String> = notes::elsewhere(&self.tables, &self.schema).into_keys().map(line).collect();
        if !elsewhere.is_empty() {
            writeln!(text, "# Guardian hardens this schema only, and does nothing in these, which have tables too:")?;
            writeln!(text, "#   {}", elsewhere.join(", "))?;
        }
        if surroundings.folder_is_shared {
            writeln!(
                text,
                "# `guardian migrate` runs every file of this folder that its own ledger lacks, and yours were run by"
            )?;
            writeln!(text, "# other means: run the proposed one by those too, or move the others away first.")?;
            writeln!(text, "# migrations = \"migrations\"")?;
        } else {
            writeln!(text, "migrations = \"migrations\"")?;
        }
        writeln!(text)?;
        let table = self.tenant.table.as_deref().map_or_else(|| "no table of theirs".to_owned(), line);
        writeln!(text, "# The tenants: {table}. Confidence: {}.", self.confidence.as_str())?;
        for evidence in &self.tenant.evidence {
            writeln!(text, "#   {}", line(evidence))?;
        }
        for other in &self.alternatives {
            let table = other.table.as_deref().map_or_else(String::new, |table| format!("{} with ", line(table)));
            writeln!(text, "# It could also be {table}`{}` ({} tables lead to it).", line(&other.column), other.tables)?;
        }
        writeln!(text, "tenant_column = {}", quoted(&self.tenant.column))?;
        writeln!(text, "tenant_key = {}", quoted(self.tenant_key.as_str()))?;
        self.write_global(text)?;
        self.write_keys(text)?;
        writeln!(text, "\n# How tenants are kept. `row`: all in the tables above, apart by policies.")?;
        writeln!(text, "[tiers.standard]\nisolation = \"row\"")
    }

    fn write_global(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\n# Tables that belong to no tenant: every tenant reads all of their rows, and writes none.")?;
        writeln!(text, "[application.global]")?;
        let here = || self.tables.iter().filter(|table| table.schema == self.schema);
        for table in here() {
            if let Class::Global { reason } = &table.class {
                writeln!(text, "# {}: {}", table.confidence.as_str(), because(table))?;
                writeln!(text, "{} = {}", key(&table.name), quoted(reason))?;
            }
        }
        let undecided: Vec<&Table> = here().filter(|table| table.class == Class::Undecided).collect();
        if !undecided.is_empty() {
            writeln!(text, "# Undecided: Guardian refuses to work until each of these has a tenant column or stands here,")?;
            writeln!(text, "# or in [application.closed], where no tenant reads it.")?;
        }
        for table in undecided {
            writeln!(text, "#   {}", because(table))?;
            writeln!(text, "# {} = \"why\"", key(&table.name))?;
        }
        Ok(())
    }

    fn write_keys(&self, text: &mut String) -> std::fmt::Result {
        if self.keys.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\n# Unique and primary keys without the tenant. \"composite\" puts it in front, so that a key is unique within"
        )?;
        writeln!(text, "# a tenant; one that stays unique over all of them lets a tenant learn that another has a value.")?;
        writeln!(text, "[application.keys]")?;
        for one in &self.keys {
            match &one.global {
                None => writeln!(text, "{} = \"composite\"", key(&one.name))?,
                Some(reason) => writeln!(text, "{} = {{ global = {} }}", key(&one.name), quoted(reason))?,
            }
        }
        Ok(())
    }
}

fn because(table: &Table) -> String {
    line(&table.evidence.join("; "))
}

/// A TOML string that is a single line whatever is in it.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { name.to_owned() } else { quoted(name) }
}
