//! What holds for every rule.

use std::collections::BTreeSet;

use guardian_audit::rules;

use crate::{
    bench::Bench,
    cases::{CASES, NEAR_MISSES},
};

const SECTIONS: [&str; 5] = ["## What\n", "\n## Why\n", "\n## Exploit\n", "\n## Remedy\n", "\n## Near miss\n"];

#[tokio::test]
async fn the_sound_database_has_no_finding() {
    let bench = Bench::new().await;
    let mut found = bench.findings().await;
    found.retain(|finding| !bench.finds_anyway().contains(&finding.rule));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_rule_is_documented_and_tested() {
    let provoked: BTreeSet<&str> = CASES.iter().copied().flatten().map(|case| case.rule).collect();
    let missed: BTreeSet<&str> = NEAR_MISSES.iter().copied().flatten().map(|near| near.rule).collect();
    for rule in rules::ALL {
        let mut rest = rule.docs;
        for section in SECTIONS {
            let at = rest.find(section);
            assert!(at.is_some(), "{}: {:?} is missing or out of place", rule.id, section.trim());
            rest = &rest[at.unwrap() + section.len() - 1..];
            let text = rest.trim_start();
            assert!(!text.is_empty() && !text.starts_with("## "), "{}: {:?} is empty", rule.id, section.trim());
        }
        assert!(!rule.title.is_empty() && !rule.title.ends_with('.'), "{}: the title", rule.id);
        // The audit's own are tested where it is.
        if !rule.id.starts_with("GRD-PG-9") {
            assert!(provoked.contains(rule.id), "{} has no case", rule.id);
            assert!(missed.contains(rule.id), "{} has no near miss", rule.id);
        }
    }
}

#[test]
fn ids_are_well_formed_unique_and_in_order() {
    let ids: Vec<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    for rule in rules::ALL {
        let digits = rule.id.strip_prefix("GRD-PG-").unwrap_or_default();
        assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{}", rule.id);
        assert!(rule.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{}", rule.name);
    }
    let names: BTreeSet<&str> = rules::ALL.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), rules::ALL.len(), "two rules have one name");
}
