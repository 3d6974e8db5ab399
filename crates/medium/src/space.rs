//! The space that a file has on its medium, and its holes, which have none.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::medium::counts_blocks;

/// Length, blocks and the like.
pub fn metadata(file: &File) -> Result<Metadata> {
    file.metadata().map_err(|source| Error::Io { action: "asking for the pool's size", source })
}

/// Gives bytes of the file space.
///
/// # Errors
/// The medium has none (`Error::Full`), or the system refused (`Error::Io`).
pub fn allocate(file: &File, from: u64, bytes: u64) -> Result<()> {
    // A signal in the middle is no failure; some kernels let it end the call.
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), from, bytes)) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::FBIG | Errno::DQUOT) => Err(full(bytes, free_bytes(file))),
        Err(errno) => Err(Error::io("allocating space for the pool")(errno)),
    }
}

/// What the medium has left.
pub fn free_bytes(file: &File) -> u64 {
    fstatvfs(file).map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Whether a hole that comes later can be seen, as damage.
pub fn shows_holes(file: &File) -> Result<bool> {
    Ok(counts_blocks(file)? && !has_holes(&metadata(file)?))
}

/// Whether some of the file has no space.
pub fn has_holes(facts: &Metadata) -> bool {
    facts.blocks() * 512 < facts.len()
}

/// The medium has no space left.
pub fn full(needed_bytes: u64, free_bytes: u64) -> Error {
    let advice = "free some space, or move the pool file to a larger medium and go on there";
    Error::Full { what: "the pool's medium", needed_bytes, free_bytes, advice }
}
