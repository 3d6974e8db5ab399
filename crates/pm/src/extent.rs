//! Extents: the bulk area behind the twin heaps, written once, outside any transaction.

use plinius_medium::{EXTENT_ALIGN, Error, Extent, Result};

use crate::holes::Holes;
use crate::superblock::Superblock;

/// Checks an extent that was read from the pool against the pool's geometry.
pub fn checked(extent: Extent, layout: &Superblock) -> Result<Extent> {
    let fits = extent.offset >= layout.extents_offset()
        && extent.offset.is_multiple_of(EXTENT_ALIGN)
        && extent.bytes > 0
        && extent.offset.checked_add(extent.bytes).is_some_and(|end| end <= layout.pool_bytes);
    if fits { Ok(extent) } else { Err(Error::corrupt(format!("an extent lies outside of it: {extent:?}"))) }
}

/// The free space between the extents.
#[derive(Debug, Default)]
pub struct FreeSpace(Holes);

impl FreeSpace {
    /// All that `extents`, and the further segments of the heap, leave free; what overlaps is damage.
    pub fn around(extents: impl Iterator<Item = Extent>, layout: &Superblock) -> Result<Self> {
        let segments = layout.heap.segments()[1..].iter();
        let segments = segments.map(|segment| Extent { offset: segment.offset, bytes: 2 * segment.bytes });
        let mut taken = extents.chain(segments).map(|extent| checked(extent, layout)).collect::<Result<Vec<_>>>()?;
        taken.sort_unstable();
        let mut free = Self::default();
        let mut at = layout.extents_offset();
        for extent in taken {
            if extent.offset < at {
                return Err(Error::corrupt(format!("two extents overlap at {}", extent.offset)));
            }
            free.add(at, extent.offset - at);
            at = extent.offset + extent.space();
        }
        free.add(at, layout.pool_bytes.saturating_sub(at));
        Ok(free)
    }

    /// Takes space for `bytes`: the smallest hole that fits, so that a job's sizes find their own holes again.
    pub fn take(&mut self, bytes: u64) -> Option<Extent> {
        let (offset, _) = self.0.take(bytes.checked_next_multiple_of(EXTENT_ALIGN)?)?;
        Some(Extent { offset, bytes })
    }

    /// Gives an extent's space back.
    pub fn give(&mut self, extent: Extent) {
        self.0.give(extent.offset, extent.space());
    }

    /// Adds the space by which the pool grew.
    pub fn add(&mut self, offset: u64, bytes: u64) {
        if bytes > 0 {
            self.0.give(offset, bytes);
        }
    }

    /// How much is free right before a place.
    pub fn bytes_before(&self, end: u64) -> u64 {
        self.0.bytes_before(end)
    }

    /// All free bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests;
