#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kessen_fuzz::formats::model(bytes);
});
