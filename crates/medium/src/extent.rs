//! Extents: runs of bulk bytes in a pool file, written once.

use crate::error::{Error, Result};
use crate::region::Region;

/// Extents begin and end at multiples of this, so that no two share a page of an ordinary file.
pub const EXTENT_ALIGN: u64 = 4096;

/// A run of bytes in the pool file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// From the start of the file.
    pub offset: u64,
    /// Bytes that are used; the space behind them up to `EXTENT_ALIGN` belongs to the extent too.
    pub bytes: u64,
}

impl Extent {
    /// What it occupies.
    pub fn space(self) -> u64 {
        self.bytes.next_multiple_of(EXTENT_ALIGN)
    }

    /// Copies bytes of it into private memory, starting `at` bytes into it.
    ///
    /// # Errors
    /// The range is not inside the extent, or that not inside the pool: `Error::Corrupt`, since extents come from the pool.
    pub fn load<R: Region + ?Sized>(self, region: &R, at: u64, out: &mut [u8]) -> Result<()> {
        region.load(self.place(region, at, out.len())?, out);
        region.check_whole()
    }

    /// Streams bytes into it, starting `at` bytes into it. The writing thread fences before it reports that it is done.
    ///
    /// # Errors
    /// As those of `load`.
    pub fn stream<R: Region + ?Sized>(self, region: &R, at: u64, bytes: &[u8]) -> Result<()> {
        region.stream(self.place(region, at, bytes.len())?, bytes);
        Ok(())
    }

    /// Where `len` bytes lie that begin `at` bytes into it.
    fn place<R: Region + ?Sized>(self, region: &R, at: u64, len: usize) -> Result<u64> {
        let inside = at.checked_add(len as u64).is_some_and(|end| end <= self.bytes);
        let fits = self.offset.checked_add(self.bytes).is_some_and(|end| end <= region.len());
        if inside && fits {
            return Ok(self.offset + at);
        }
        Err(Error::corrupt(format!("{len} bytes at {at} are not inside {self:?}")))
    }
}
