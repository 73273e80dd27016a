//! A terminal's screen is the same however its stream is cut, and so is that of its copy.
#![no_main]

#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::screen(data));
