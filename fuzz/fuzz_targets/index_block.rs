#![no_main]
//! Fuzzes `annals_tests::fuzz::index_block`, which says what is checked.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| annals_tests::fuzz::index_block(bytes));
