//! See `guardian_fuzz::pgwire::server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::pgwire::server(bytes));
