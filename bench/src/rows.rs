//! The rows of a bench: all of them, or those that the command line names.

use std::env;

use anyhow::{Result, ensure};

use crate::Report;

/// Measures one row and adds its figures.
pub type Row<C> = fn(&C, &mut Report) -> Result<()>;

/// Measures in what `open` gives. All rows go into the part `section` of `docs/performance.md`; some only are printed.
#[expect(clippy::print_stderr, reason = "the progress of a bench")]
pub fn measure<C>(section: &'static str, rows: &[(&str, Row<C>)], open: impl FnOnce() -> Result<C>) -> Result<()> {
    let wanted: Vec<String> = env::args().skip(1).collect();
    for name in &wanted {
        let names = rows.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        ensure!(rows.iter().any(|(known, _)| known == name), "there is no row `{name}`; there are {names}");
    }
    let context = open()?;
    let mut report = Report::new(section);
    for (name, row) in rows {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            row(&context, &mut report)?;
        }
    }
    if wanted.is_empty() {
        report.finish("docs/performance.md")
    } else {
        report.print();
        Ok(())
    }
}
