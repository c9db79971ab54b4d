//! Quoting of names and values in SQL text, for statements that take no bind parameters (all of DDL).
//!
//! Secrets never pass through here: they travel as bind parameters or as SCRAM verifiers.

/// A name as an identifier, always in double quotes so that no word is special and no case is folded.
///
/// A NUL byte, which PostgreSQL cannot store in a name, is dropped.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// A name qualified by its schema.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// Names as a list of identifiers.
pub fn idents<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| ident(name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// A value as a string literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    let quoted = value.replace('\0', "").replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A name of at most 63 bytes (PostgreSQL's limit) that still tells apart what it was made of.
pub fn bounded_name(name: &str) -> String {
    const LEN_MAX: usize = 63;
    const DIGEST_LEN: usize = 8;
    if name.len() <= LEN_MAX {
        return name.to_owned();
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let digest = digest.as_ref().iter().take(DIGEST_LEN / 2).fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
    let mut end = LEN_MAX - DIGEST_LEN - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{digest:08x}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_break_out() {
        assert_eq!(ident("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(qualified("Public", "Order"), "\"Public\".\"Order\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn long_names_stay_distinct_and_in_bounds() {
        let left = bounded_name(&format!("{}_a", "x".repeat(70)));
        let right = bounded_name(&format!("{}_b", "x".repeat(70)));
        assert!(left.len() <= 63 && left != right);
        assert!(bounded_name(&"é".repeat(60)).len() <= 63);
        assert_eq!(bounded_name("short"), "short");
    }
}
