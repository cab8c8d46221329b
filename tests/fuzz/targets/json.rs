#![no_main]

// The folder itself, not the crate: it needs nothing else, and the runtime would take minutes to instrument.
#[path = "../../../src/json/mod.rs"]
mod json;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| json::invariants::json(bytes));
