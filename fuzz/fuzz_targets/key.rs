//! See `guardian_fuzz::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::key(bytes));
