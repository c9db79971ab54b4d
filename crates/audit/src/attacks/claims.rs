//! Documents that give a claim the wanted value wherever a policy may look for it.
//!
//! A policy that reads a signed token's claims from a setting (`request.jwt.claims`) takes them by a path of names. Nothing
//! is parsed: the names are the literals of what PostgreSQL stores, in their order, and documents of one, two and three levels
//! are made of neighbours. That one of them opens anything has to be seen.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    context::{named_in, texts_of},
    values::literals,
};
use crate::facts::Facts;

/// Names that are tried; a database with more has other names in mind.
const NAMES_MAX: usize = 200;

/// The documents, as JSON; none where nothing takes a JSON apart.
pub(super) fn documents(facts: &Facts, key: &str) -> Vec<String> {
    let mut left = NAMES_MAX;
    let mut paths: Vec<Vec<String>> = Vec::new();
    for text in texts_of(facts).filter(|text| takes_apart(text)) {
        let names: Vec<String> = literals(text).iter().flat_map(|literal| names(literal)).take(left).collect();
        if !names.is_empty() && !paths.contains(&names) {
            left -= names.len();
            paths.push(names);
        }
    }
    of_paths(&paths, key)
}

/// The settings named where a JSON is taken apart: the others hold none.
pub(super) fn settings(facts: &Facts) -> BTreeSet<String> {
    texts_of(facts).filter(|text| takes_apart(text)).flat_map(|text| named_in(text)).collect()
}

fn takes_apart(text: &str) -> bool {
    text.contains("->") || text.contains("#>") || text.contains("json")
}

/// `#>> '{app_metadata,tenant}'` holds the whole path.
fn names(literal: &str) -> Vec<String> {
    let inner = literal.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(literal);
    inner.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
}

fn of_paths(paths: &[Vec<String>], key: &str) -> Vec<String> {
    let mut documents = Vec::new();
    for levels in 1..=3 {
        let mut document = Map::new();
        for path in paths.iter().flat_map(|path| path.windows(levels)) {
            put(&mut document, path, key);
        }
        if document.is_empty() {
            continue;
        }
        // What begins no longer path is a claim of its own.
        for name in paths.iter().flatten() {
            document.entry(name).or_insert_with(|| Value::from(key));
        }
        documents.push(Value::Object(document).to_string());
    }
    documents.dedup();
    documents
}

fn put(document: &mut Map<String, Value>, path: &[String], key: &str) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        document.entry(first).or_insert_with(|| Value::from(key));
    } else if let Value::Object(inner) = document.entry(first).or_insert_with(|| Value::Object(Map::new())) {
        put(inner, rest, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_each_depth_has_the_key_where_the_names_lead() {
        let path = ["request.jwt.claims", "app_metadata", "tenant"].map(str::to_owned).to_vec();
        let documents: Vec<Value> =
            of_paths(&[path], "k").iter().map(|document| serde_json::from_str(document).unwrap()).collect();
        assert_eq!(documents[0]["tenant"], "k");
        assert_eq!(documents[1]["app_metadata"]["tenant"], "k");
        assert_eq!(documents[1]["tenant"], "k");
        assert_eq!(documents[2]["request.jwt.claims"]["app_metadata"]["tenant"], "k");
        assert!(of_paths(&[], "k").is_empty());
    }

    #[test]
    fn a_path_in_one_literal_is_its_names() {
        assert_eq!(names("{app_metadata, \"tenant\"}"), ["app_metadata", "tenant"]);
        assert!(names("").is_empty());
    }
}
