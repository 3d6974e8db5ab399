//! The one interface through which every byte of a pool is read, written and made durable.

use crate::error::Result;

/// The size of a cache line, the unit of write-back.
pub const LINE: u64 = 64;

/// A mapped pool file. The tests of crashes implement it too, with a medium that records.
///
/// Offsets count from the start of the file. An access outside `0..len` panics: callers pass only offsets that were
/// checked when they were read. The four ordering methods are `#[track_caller]`, so that a recording region knows which
/// flush and which fence of the code it sees.
pub trait Region: Send + Sync + 'static {
    /// Bytes that are mapped.
    fn len(&self) -> u64;

    /// Whether nothing is mapped yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds that an earlier access failed, because somebody cut the file or its medium had no room or a bad page: what
    /// was read then is junk, and what was written is lost. Costs next to nothing.
    ///
    /// # Errors
    /// The file is shorter than the mapping (`Error::Corrupt`), or the medium failed (`Error::Full`, `Error::Io`).
    fn check_whole(&self) -> Result<()> {
        Ok(())
    }

    /// Copies bytes of the pool into private memory.
    fn load(&self, at: u64, out: &mut [u8]);

    /// Writes with plain stores; durable after `pwb` and a fence. Eight aligned bytes are one store, which is never torn.
    fn store(&self, at: u64, bytes: &[u8]);

    /// Writes bulk bytes past the cache; durable after the writing thread's fence.
    fn stream(&self, at: u64, bytes: &[u8]);

    /// Whether `stream` stores past the cache.
    fn streams(&self) -> bool {
        true
    }

    /// Copies whole cache lines from one place of the pool to another past the cache; durable after this thread's fence.
    fn copy(&self, from: u64, to: u64, len: u64);

    /// Starts the write-back of the cache lines that hold a range.
    #[track_caller]
    fn pwb(&self, at: u64, len: u64);

    /// Makes this thread's streamed stores durable before what it reports afterwards. On an ordinary file the committing
    /// thread's `pfence` does that for all threads.
    #[track_caller]
    fn thread_fence(&self);

    /// Finds whether anything that was streamed, and fenced, is lost: for who streams and lets another one commit.
    ///
    /// # Errors
    /// The medium failed to write (`Error::Io`), or `check_whole` does not hold.
    fn settle(&self) -> Result<()> {
        self.check_whole()
    }

    /// Everything that this thread wrote back or streamed before is durable before anything that is written after.
    ///
    /// # Errors
    /// The medium failed to write (`Error::Io`), or `check_whole` does not hold.
    #[track_caller]
    fn pfence(&self) -> Result<()>;

    /// Everything that this thread wrote back or streamed before is durable when this returns.
    ///
    /// # Errors
    /// As `pfence`.
    #[track_caller]
    fn psync(&self) -> Result<()>;

    /// Lengthens the file and its mapping to `bytes`, with space allocated, the new part zero.
    ///
    /// # Errors
    /// The medium has no room (`Error::Full`), or the system refused (`Error::Io`).
    fn grow(&self, bytes: u64) -> Result<()>;
}

/// Reads one little-endian word.
#[inline]
pub fn load_u64<R: Region + ?Sized>(region: &R, at: u64) -> u64 {
    let mut word = [0; 8];
    region.load(at, &mut word);
    u64::from_le_bytes(word)
}
