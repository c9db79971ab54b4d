//! See `guardian_fuzz::pgwire::own_statement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::pgwire::own_statement(bytes));
