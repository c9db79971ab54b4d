//! See `guardian_fuzz::pgwire::first_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_fuzz::pgwire::first_packet(bytes));
