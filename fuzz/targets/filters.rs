#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tcp_observer::fuzzing::filters(bytes));
