//! See `guardian_fuzz::slug`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::slug(bytes));
