//! See `vm_backend::fuzz::boot_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vm_backend::fuzz::boot_file(bytes));
