//! A pool that was whole, with some changes; the reader without a lock sees the same in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plinius_fuzz::edits::Edits;
use plinius_fuzz::exercise;

fuzz_target!(|input: &[u8]| {
    let Some(edits) = Edits::read(input) else { return };
    let mut file = edits.before().to_vec();
    edits.apply(&mut file);
    let status = exercise::status(&file);
    let Some(entries) = exercise::pool(&file) else { return };
    // A file whose creation was cut is an empty pool once it is opened, and none before.
    let seen = status.map_or(Vec::new(), |status| status.entries);
    assert_eq!(seen, entries, "without the lock another catalog is seen");
});
