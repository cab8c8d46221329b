#![no_main]

// The folder itself, not the crate: it needs nothing else, and the runtime would take minutes to instrument.
#[path = "../../../src/http/mod.rs"]
mod http;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    http::h2::invariants::connection(bytes);
    http::h2::invariants::block(bytes);
});
