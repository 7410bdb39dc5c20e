#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kessen_graph::fuzz_text(bytes);
});
