//! Any bytes as a pool file, read without its lock.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plinius_fuzz::exercise;

fuzz_target!(|file: &[u8]| {
    exercise::status(file);
});
