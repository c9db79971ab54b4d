//! What has come of an import so far: counts, the first of what is to be told, and everything in a file when that is wanted.

use std::{collections::HashMap, fs::File, path::Path};

use anyhow::Context as _;
use guardian_model::import::{ImportConflict, ImportReport};
use serde::Serialize;

use super::source::Row;
use crate::output::{Failure, Mark, Output, Table, counted};

/// How many conflicts are kept to be shown; `--conflicts` writes all of them.
const LISTED_MAX: usize = 100;
/// How many a person is shown.
const SHOWN_MAX: usize = 20;

/// The result, as `--json` prints it.
#[derive(Serialize)]
pub(super) struct Tally {
    dry_run: bool,
    rows: usize,
    created: usize,
    unchanged: usize,
    pending: usize,
    conflicts: usize,
    /// The first hundred.
    listed: Vec<Listed>,
    successors: usize,
    #[serde(skip)]
    successors_listed: Vec<Listed>,
    #[serde(skip)]
    by_key: HashMap<String, (u64, Option<String>)>,
    #[serde(skip)]
    by_slug: HashMap<String, u64>,
    #[serde(skip)]
    file: Option<csv::Writer<File>>,
}

/// Something to be told about one tenant.
#[derive(Serialize)]
struct Listed {
    line: u64,
    key: String,
    slug: Option<String>,
    reason: String,
}

impl Tally {
    pub(super) fn new(dry_run: bool, file: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| csv::Writer::from_path(path).with_context(|| format!("cannot write `{}`", path.display()));
        let file = file.map(open).transpose()?;
        Ok(Self {
            dry_run,
            rows: 0,
            created: 0,
            unchanged: 0,
            pending: 0,
            conflicts: 0,
            listed: Vec::new(),
            successors: 0,
            successors_listed: Vec::new(),
            by_key: HashMap::new(),
            by_slug: HashMap::new(),
            file,
        })
    }

    pub(super) const fn conflicts(&self) -> usize {
        self.conflicts
    }

    /// The rows that do not repeat an earlier one: a dry run, which makes nothing, would not notice.
    pub(super) fn without_repeated(&mut self, rows: Vec<Row>) -> anyhow::Result<Vec<Row>> {
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            self.rows += 1;
            let (key, slug) = (&row.tenant.key, &row.tenant.slug);
            let reason = match (self.by_key.get(key), slug.as_ref().and_then(|slug| self.by_slug.get(slug))) {
                (Some((_, before)), _) if before == slug || slug.is_none() => {
                    self.unchanged += 1;
                    continue;
                }
                (Some((line, _)), _) => format!("line {line} has the same key and another slug"),
                (None, Some(line)) => format!("line {line} has the same slug and another key"),
                (None, None) => {
                    self.by_key.insert(key.clone(), (row.line, slug.clone()));
                    if let Some(slug) = slug {
                        self.by_slug.insert(slug.clone(), row.line);
                    }
                    kept.push(row);
                    continue;
                }
            };
            self.conflict(Listed { line: row.line, key: row.tenant.key, slug: row.tenant.slug, reason })?;
        }
        Ok(kept)
    }

    /// Counts what came of these rows.
    pub(super) fn add(&mut self, rows: &[Row], report: ImportReport) -> anyhow::Result<()> {
        let ImportReport { created, unchanged, pending, conflicts, successors } = report;
        self.created += created as usize;
        self.unchanged += unchanged as usize;
        self.pending += pending as usize;
        let listed = |ImportConflict { index, key, slug, reason }| {
            let line = rows.get(index as usize).map_or(0, |row| row.line);
            Listed { line, key, slug, reason }
        };
        for conflict in conflicts {
            self.conflict(listed(conflict))?;
        }
        self.successors += successors.len();
        let room = SHOWN_MAX - self.successors_listed.len();
        self.successors_listed.extend(successors.into_iter().take(room).map(listed));
        Ok(())
    }

    fn conflict(&mut self, conflict: Listed) -> anyhow::Result<()> {
        self.conflicts += 1;
        if let Some(file) = &mut self.file {
            file.serialize(&conflict).context("cannot write the file of conflicts")?;
        }
        if self.listed.len() < LISTED_MAX {
            self.listed.push(conflict);
        }
        Ok(())
    }

    /// Everything is in the file.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.file.as_mut().map_or(Ok(()), csv::Writer::flush).context("cannot write the file of conflicts")
    }

    pub(super) fn so_far(&self) -> String {
        format!("{} rows: {} new, {} there already, {} left out", self.rows, self.created, self.unchanged, self.conflicts)
    }

    pub(super) fn tell(&self, output: Output) -> anyhow::Result<()> {
        let new = if self.dry_run { "would be imported" } else { "imported" };
        let mark = if self.conflicts > 0 { Mark::Caution } else { Mark::Good };
        let there = format!("{} {new}, {} there already", counted(self.created, "tenant"), self.unchanged);
        output.marked(mark, format!("{there}, {} left out", self.conflicts))?;
        if self.pending > 0 {
            let pending = counted(self.pending, "tenant");
            output.remark(format!("{pending} will be active when the cluster lets them; see guardian operation list"));
        }
        for Listed { line, key, slug, reason } in &self.successors_listed {
            let slug = slug.as_deref().unwrap_or_default();
            output.remark(format!("line {line}: `{slug}` with the key `{key}`: {reason}"));
        }
        if self.listed.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["line", "key", "slug", "why it was left out"]);
        for Listed { line, key, slug, reason } in self.listed.iter().take(SHOWN_MAX) {
            let slug = slug.as_deref().unwrap_or("-");
            table.row([line.into(), key.into(), slug.into(), reason.into()]);
        }
        output.table(table)?;
        let more = self.conflicts.saturating_sub(SHOWN_MAX);
        if more > 0 && self.file.is_none() {
            output.remark(format!("and {more} more; --conflicts FILE writes all of them"));
        }
        Ok(())
    }

    pub(super) fn failure(&self) -> Failure {
        let (left, all) = (self.conflicts, counted(self.rows, "row"));
        Failure::new(format!("{left} of {all} left out"))
            .advise("mend them where they come from, then import all of it again: what is there is left as it is")
    }
}

#[cfg(test)]
mod tests {
    use guardian_model::import::ImportTenant;

    use super::*;

    fn row(line: u64, key: &str, slug: Option<&str>) -> Row {
        let slug = slug.map(str::to_owned);
        Row { line, tenant: ImportTenant { key: key.to_owned(), slug, name: None, tier: None } }
    }

    #[test]
    fn a_row_is_sent_once() {
        let mut tally = Tally::new(true, None).unwrap();
        let rows = vec![
            row(2, "1", Some("a")),
            row(3, "1", Some("a")),
            row(4, "1", Some("b")),
            row(5, "2", Some("a")),
            row(6, "3", None),
            row(7, "3", None),
            row(8, "4", None),
        ];
        let kept: Vec<u64> = tally.without_repeated(rows).unwrap().iter().map(|row| row.line).collect();
        assert_eq!(kept, [2, 6, 8]);
        assert_eq!((tally.rows, tally.unchanged, tally.conflicts), (7, 2, 2));
        assert_eq!(tally.listed[0].reason, "line 2 has the same key and another slug");
        assert_eq!(tally.listed[1].reason, "line 2 has the same slug and another key");
    }

    #[test]
    fn all_conflicts_go_into_the_file_and_the_first_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left-out.csv");
        let mut tally = Tally::new(false, Some(&path)).unwrap();
        let conflicts = (0..250).map(|index| ImportConflict {
            index,
            key: index.to_string(),
            slug: None,
            reason: "no, \"thanks\"".to_owned(),
        });
        let rows: Vec<Row> = (0..250).map(|line| row(line + 2, &line.to_string(), None)).collect();
        tally.add(&rows, ImportReport { conflicts: conflicts.collect(), ..ImportReport::default() }).unwrap();
        tally.finish().unwrap();
        assert_eq!((tally.conflicts, tally.listed.len()), (250, LISTED_MAX));
        let mut reader = csv::Reader::from_path(&path).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["line", "key", "slug", "reason"]);
        assert_eq!(reader.records().count(), 250);
    }
}
