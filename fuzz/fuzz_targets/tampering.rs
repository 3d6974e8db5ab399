//! A pool that is changed by somebody else while it is open.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plinius_fuzz::edits::Edits;
use plinius_fuzz::exercise;

fuzz_target!(|input: &[u8]| {
    let Some(edits) = Edits::read(input) else { return };
    exercise::tampered(edits.before(), |file| edits.apply(file));
});
