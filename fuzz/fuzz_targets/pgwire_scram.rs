//! See `guardian_fuzz::pgwire::scram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::pgwire::scram(bytes));
