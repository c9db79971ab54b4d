//! See `guardian_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::config(bytes));
