//! See `guardian_gateway::sql::fuzzing::server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| guardian_gateway::sql::fuzzing::server(bytes));
