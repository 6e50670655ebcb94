//! Lets libFuzzer play a hostile guest and a hostile network against the 82540EM.

#![no_main]

mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::run(data));
