//! See `guardian_gateway::sql::fuzzing::client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_gateway::sql::fuzzing::client(bytes));
