//! Figures: printed one a line at the end, and kept as a table in `docs/performance.md`.

use std::{fmt::Write as _, fs};

use anyhow::{Context, Result};

use crate::Summary;

/// A goal for a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Published without a goal.
    None,
}

/// One measured figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its name, one word.
    pub name: String,
    /// Over the rounds; the median counts.
    pub value: Summary,
    /// What it should be.
    pub goal: Goal,
    /// What is compared with what, in words.
    pub what: String,
}

/// The figures of one bench.
#[derive(Debug)]
pub struct Report {
    section: &'static str,
    figures: Vec<Figure>,
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtMost(goal) => format!("<={goal}"),
            Self::AtLeast(goal) => format!(">={goal}"),
            Self::None => "none".to_owned(),
        }
    }

    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(goal) => value <= goal,
            Self::AtLeast(goal) => value >= goal,
            Self::None => true,
        }
    }
}

impl Report {
    /// A report for the part of `docs/performance.md` between `<!-- SECTION -->` and `<!-- /SECTION -->`.
    pub fn new(section: &'static str) -> Self {
        Self { section, figures: Vec::new() }
    }

    /// Adds a figure and shows it as progress.
    #[expect(clippy::print_stderr, reason = "the progress of a bench")]
    pub fn add(&mut self, name: &str, samples: &[f64], goal: Goal, what: &str) {
        let value = Summary::of(samples);
        eprintln!("  {name}: {:.3} (min {:.3}, max {:.3}, {} rounds)", value.median, value.min, value.max, samples.len());
        self.figures.push(Figure { name: name.to_owned(), value, goal, what: what.to_owned() });
    }

    /// Writes the table and prints the figures.
    pub fn finish(self, path: &str) -> Result<()> {
        let mut table = String::from("| figure | what | min | median | max | goal | met |\n|---|---|---|---|---|---|---|\n");
        for figure in &self.figures {
            let met = match figure.goal {
                Goal::None => "–",
                goal if goal.is_met(round(figure.value.median)) => "yes",
                _ => "**no**",
            };
            let Summary { min, median, max } = figure.value;
            writeln!(
                table,
                "| `{}` | {} | {min:.3} | {median:.3} | {max:.3} | {} | {met} |",
                figure.name,
                figure.what,
                figure.goal.text()
            )?;
        }
        // Figures that took a while are shown whether or not the document takes them.
        self.print();
        let document = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        fs::write(path, replaced(&document, self.section, &table)?).with_context(|| format!("writing {path}"))
    }

    /// Prints the figures.
    #[expect(clippy::print_stdout, reason = "figures are the output of a bench")]
    pub fn print(&self) {
        for figure in &self.figures {
            println!("figure {} {:.3} goal {}", figure.name, figure.value.median, figure.goal.text());
        }
    }
}

/// A goal of two digits is met by a value that rounds to it.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn replaced(document: &str, section: &str, table: &str) -> Result<String> {
    let (open, close) = (format!("<!-- {section} -->\n"), format!("<!-- /{section} -->"));
    let (before, rest) = document.split_once(&open).with_context(|| format!("no {} in the document", open.trim()))?;
    let (_, after) = rest.split_once(&close).with_context(|| format!("no {close} in the document"))?;
    Ok(format!("{before}{open}{table}{close}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_changes() {
        let document = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        assert_eq!(replaced(document, "x", "new\n").unwrap(), "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n");
        assert!(replaced(document, "y", "new").is_err());
    }

    #[test]
    fn a_goal_is_met_on_its_edge() {
        assert!(Goal::AtMost(1.1).is_met(round(1.1004)));
        assert!(!Goal::AtMost(1.1).is_met(round(1.106)));
        assert!(Goal::AtLeast(0.25).is_met(0.25));
    }
}
