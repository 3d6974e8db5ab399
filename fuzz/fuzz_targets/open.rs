//! Any bytes as a whole pool file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plinius_fuzz::exercise;

fuzz_target!(|file: &[u8]| {
    exercise::pool(file);
});
