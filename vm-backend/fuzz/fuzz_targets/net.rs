//! See `vm_backend::fuzz::net`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vm_backend::fuzz::net(bytes));
