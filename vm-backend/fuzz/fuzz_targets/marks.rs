//! See `vm_backend::fuzz::marks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vm_backend::fuzz::marks(bytes));
