//! The import of the tenants that an application already has: what is asked, what came of it, and the slugs that are made
//! for tenants without one.

use serde::{Deserialize, Serialize};

use crate::{Slug, TierName};

/// How many tenants one request may bring.
pub const IMPORT_TENANTS_MAX: usize = 1_000;
/// What the suffix of a slug takes up: a hyphen and eight digits.
const SUFFIX_LEN: usize = 9;
const SLUG_LEN_MAX: usize = 63;

/// Asks for `row` tenants with the keys that they have already.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportTenants {
    /// The tier of those that name none; its isolation is `row`.
    pub tier: TierName,
    /// 1 to 1,000 tenants.
    pub tenants: Vec<ImportTenant>,
    /// Changes nothing and says what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// One tenant of the application. Only what makes no sense as JSON is refused as a whole; what makes no sense otherwise is
/// told in the report, and the others are imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportTenant {
    /// Its value in the tenant column, as PostgreSQL writes it.
    pub key: String,
    /// Its slug; left out: made from the name, or without one from the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// What people call it. Only a slug is made of it; it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its tier, when it is another than that of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportReport {
    /// Tenants that are new.
    pub created: u32,
    /// Tenants of the request that were there before, with the same key and slug (or with the key, when none was asked for).
    pub unchanged: u32,
    /// New tenants that are not active yet, because their cluster has trouble; they will be without anybody asking again.
    pub pending: u32,
    /// Tenants that were not imported, and why.
    pub conflicts: Vec<ImportConflict>,
    /// New tenants that bear the slug or the key of a deleted one.
    pub successors: Vec<ImportConflict>,
}

/// A tenant of the request about which something is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportConflict {
    /// Its place in the request, from 0.
    pub index: u32,
    /// Its key, as it was given.
    pub key: String,
    /// Its slug, as it was given or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// What it is, and what to do about it.
    pub reason: String,
}

/// The slug of a tenant that has none, and the one that it gets when the first is taken. Both depend on its own name and key
/// only, so that the order of an import makes no difference to any tenant but the one that comes second.
pub fn made_slugs(name: Option<&str>, key: &str) -> [Slug; 2] {
    let label = label(name.unwrap_or(key));
    let suffix = fnv1a(key.as_bytes());
    let short: String = label.chars().take(SLUG_LEN_MAX - SUFFIX_LEN).collect();
    let short = match short.trim_end_matches('-') {
        // A name in a script without Latin letters.
        "" => "t",
        short => short,
    };
    let second: Slug =
        format!("{short}-{suffix:08x}").parse().expect("a label, a hyphen and hexadecimal digits make a slug");
    let whole: String = label.chars().take(SLUG_LEN_MAX).collect();
    let first = whole.trim_end_matches('-').parse().unwrap_or_else(|_| second.clone());
    [first, second]
}

/// Lower-case ASCII letters and digits, with one hyphen for everything between them.
fn label(text: &str) -> String {
    let mut label = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        let letters = if character.is_ascii_alphanumeric() { None } else { Some(latin(character)) };
        match letters {
            None => label.push(character),
            Some("") if label.is_empty() || label.ends_with('-') => {}
            Some("") => label.push('-'),
            Some(letters) => label.push_str(letters),
        }
    }
    label.trim_end_matches('-').to_owned()
}

/// The letters of western European names in ASCII.
const fn latin(character: char) -> &'static str {
    match character {
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ă' | 'ą' => "a",
        'ä' | 'æ' => "ae",
        'ç' | 'ć' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ę' | 'ě' => "e",
        'ğ' => "g",
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => "i",
        'ł' => "l",
        'ñ' | 'ń' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ō' | 'ő' => "o",
        'ö' | 'ø' | 'œ' => "oe",
        'ř' => "r",
        'ś' | 'š' | 'ş' => "s",
        'ß' => "ss",
        'ť' | 'ţ' => "t",
        'þ' => "th",
        'ù' | 'ú' | 'û' | 'ū' | 'ů' | 'ű' => "u",
        'ü' => "ue",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => "",
    }
}

/// FNV-1a, 64 bits folded to 32: spreads keys, and is no protection; two that meet are a conflict like any other.
fn fnv1a(bytes: &[u8]) -> u32 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(name: &str, key: &str) -> [String; 2] {
        made_slugs(Some(name), key).map(String::from)
    }

    #[test]
    fn a_name_becomes_a_label() {
        assert_eq!(made("Acme, Inc.", "7")[0], "acme-inc");
        assert_eq!(made("Müller & Søn GmbH", "7")[0], "mueller-soen-gmbh");
        assert_eq!(made_slugs(None, "42")[0].as_str(), "42");
        // Sixty-three characters are a label's most, and it does not end with a hyphen.
        assert_eq!(made(&"long name ".repeat(20), "7")[0].len(), 63);
        assert_eq!(made(&format!("{} b", "a".repeat(62)), "7")[0], "a".repeat(62));
    }

    #[test]
    fn what_makes_no_label_gets_one_from_the_key() {
        for name in ["日本", "", "admin"] {
            let [first, second] = made(name, "7");
            assert_eq!(first, second, "{name}");
            assert_ne!(made(name, "8")[1], second, "{name}");
        }
    }

    #[test]
    fn a_second_of_the_same_name_gets_another_that_its_key_decides() {
        let (seven, eight) = (made("Acme", "7"), made("Acme", "8"));
        assert_eq!(seven[0], eight[0]);
        assert_ne!(seven[1], eight[1]);
        assert!(seven[1].starts_with("acme-"), "{seven:?}");
        assert_eq!(seven, made("Acme", "7"));
    }

    proptest! {
        #[test]
        fn anything_makes_two_slugs(name in proptest::option::of(".{0,90}"), key in ".{0,40}") {
            for slug in made_slugs(name.as_deref(), &key) {
                prop_assert!(slug.as_str().len() <= SLUG_LEN_MAX);
            }
        }
    }
}
