//! `docs/security.md` promises a test for each hazard that something closes; this holds it to that.

use std::{collections::BTreeSet, fs, path::Path};

/// The names of the tests in the files beside this one, and of the black-box tests.
fn tests() -> BTreeSet<String> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![crate_folder.join("tests/hardening")];
    let black_box = crate_folder.join("../../tests/tests");
    let below = fs::read_dir(&black_box).unwrap().map(|entry| entry.unwrap().path());
    folders.extend(below.filter(|path| path.is_dir()));
    folders.push(black_box);
    let mut names = BTreeSet::new();
    for entry in folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension() != Some("rs".as_ref()) {
            continue;
        }
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim_start();
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            let function = function.and_then(|rest| rest.split_once('(')).map(|(name, _)| name);
            // A line of one of the macros: `name: …`.
            let entry = line.split_once(": ").map(|(name, _)| name).filter(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            });
            names.extend(function.or(entry).map(|name| format!("{module}::{name}")));
        }
    }
    names
}

#[test]
fn every_hazard_that_is_closed_names_its_test() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = fs::read_to_string(document).unwrap();
    let tests = tests();
    let mut closed = 0;
    for row in text.lines().filter(|line| line.starts_with('|') && line.contains("| *closed by ")) {
        let named: Vec<&str> =
            row.split('`').filter(|word| word.contains("::") && !word.contains(['(', ' ', '\''])).collect();
        assert!(!named.is_empty(), "no test is named: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test `{name}`: {row}");
            closed += 1;
        }
    }
    assert!(closed >= 30, "only {closed} tests are named: has the table moved?");
}

#[test]
fn every_hazard_has_one_class() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = fs::read_to_string(document).unwrap();
    let table = text.split("<!-- hazards -->").nth(1).expect("the table stands between two markers");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    for row in &rows {
        let classes = ["*closed by apply*", "*closed by the SQL gateway*", "*closed by key rotation*", "*not closable*"];
        let count = classes.iter().filter(|class| row.contains(**class)).count();
        assert_eq!(count, 1, "{row}");
    }
    assert!(rows.len() >= 40, "only {} rows", rows.len());
}
