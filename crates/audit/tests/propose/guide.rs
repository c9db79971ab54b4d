//! `docs/guide/init.md` shows a schema and what is proposed for it; this holds it to that.

use std::{fs, path::Path};

use guardian_audit::propose::{Options, Surroundings, propose};

use crate::adopt::Existing;

/// The text of the first block of a language.
fn block<'t>(text: &'t str, language: &str) -> &'t str {
    let start = format!("```{language}\n");
    let (_, rest) = text.split_once(start.as_str()).unwrap_or_else(|| panic!("no block of {language}"));
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn the_guides_example_is_what_is_proposed() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/init.md");
    let guide = fs::read_to_string(guide).unwrap();
    let mut existing = Existing::new(block(&guide, "sql")).await;
    existing.facts.database.name = "shop".to_owned();
    let proposal = propose(&existing.facts, &Options::default()).unwrap();
    let written = proposal.config(Surroundings::default());
    assert_eq!(block(&guide, "toml"), written, "write this into the guide:\n{written}");
}
