//! The one interface through which every byte of a pool is read, written and made durable.

use crate::error::Result;

/// The size of a cache line, the unit of write-back.
pub const LINE: u64 = 64;

/// A mapped pool file. The tests of crashes implement it too, with a medium that records.
///
/// Offsets count from the start of the file. An access outside `0..len` panics: callers pass only offsets that were
/// checked when they were read.
pub trait Region: Send + Sync {
    /// Bytes that are mapped.
    fn len(&self) -> u64;

    /// Whether nothing is mapped yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds a file that somebody else has cut while it was mapped: touching what is missing would kill the process.
    ///
    /// # Errors
    /// The file is shorter than the mapping (`Error::Corrupt`).
    fn check_whole(&self) -> Result<()> {
        Ok(())
    }

    /// Copies bytes of the pool into private memory.
    fn load(&self, at: u64, out: &mut [u8]);

    /// Writes with plain stores; durable after `pwb` and a fence.
    fn store(&self, at: u64, bytes: &[u8]);

    /// Writes bulk bytes past the cache; durable after the writing thread's `thread_fence` and then a `pfence`.
    fn stream(&self, at: u64, bytes: &[u8]);

    /// Starts the write-back of the cache lines that hold a range.
    fn pwb(&self, at: u64, len: u64);

    /// Orders this thread's streamed stores before what it reports afterwards.
    fn thread_fence(&self);

    /// Everything written back before is durable before anything that is written after.
    ///
    /// # Errors
    /// The medium failed to write (`Error::Io`).
    fn pfence(&self) -> Result<()>;

    /// Everything written back before is durable when this returns.
    ///
    /// # Errors
    /// The medium failed to write (`Error::Io`).
    fn psync(&self) -> Result<()>;

    /// Lengthens the file and its mapping to `bytes`, with space allocated, the new part zero.
    ///
    /// # Errors
    /// The medium has no room (`Error::Full`), or the system refused (`Error::Io`).
    fn grow(&self, bytes: u64) -> Result<()>;
}

/// Reads one little-endian word.
pub fn load_u64<R: Region + ?Sized>(region: &R, at: u64) -> u64 {
    let mut word = [0; 8];
    region.load(at, &mut word);
    u64::from_le_bytes(word)
}
