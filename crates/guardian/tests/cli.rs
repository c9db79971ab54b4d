//! What the command line prints without a control plane: its help and its refusals, as a user sees them.
//!
//! `TRYCMD=overwrite cargo test -p guardian --test cli` writes what is printed now into the snapshots.

#[test]
fn help_and_refusals() {
    trycmd::TestCases::new().env("GUARDIAN_TOKEN", "").env("COLUMNS", "100").case("tests/cmd/*.trycmd");
}
