//! What the fuzz targets share. `open` and `status` take any bytes as a whole pool file, `edits` takes a list of changes
//! to a pool that was whole, so that what lies behind checksums is reached too.
//!
//! Whatever the file is: a typed error or a pool that works. No panic, no access outside the file, no endless loop, and
//! memory in proportion to the file.

pub mod bounded;
pub mod edits;
pub mod exercise;
pub mod format;
pub mod memory;
pub mod pools;
