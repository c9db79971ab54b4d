//! Password verifiers, so that a password never stands in SQL text, in the server's log or in `pg_stat_activity`.

/// The SCRAM-SHA-256 verifier of a password, for `ALTER ROLE … PASSWORD '…'`. Salted: two calls differ.
pub fn verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_verifier_does_not_hold_the_password() {
        let verifier = super::verifier("correct horse");
        assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");
        assert!(!verifier.contains("horse"));
        assert_ne!(verifier, super::verifier("correct horse"));
    }
}
