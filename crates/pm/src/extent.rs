//! Extents: the bulk area behind the twin heaps, written once, outside any transaction.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::superblock::Superblock;

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
    /// Checks an extent that was read from the pool against the pool's geometry.
    pub fn check(self, layout: &Superblock) -> Result<Self> {
        let fits = self.offset >= layout.extents_offset
            && self.offset.is_multiple_of(EXTENT_ALIGN)
            && self.bytes > 0
            && self.offset.checked_add(self.bytes).is_some_and(|end| end <= layout.pool_bytes);
        if fits { Ok(self) } else { Err(Error::corrupt(format!("an extent lies outside of it: {self:?}"))) }
    }

    fn space(self) -> u64 {
        self.bytes.next_multiple_of(EXTENT_ALIGN)
    }
}

/// The free space between the extents. Volatile: it is found anew from the catalog at each open, so nothing leaks.
#[derive(Debug, Default)]
pub struct FreeSpace {
    holes: BTreeMap<u64, u64>,
}

impl FreeSpace {
    /// All that `extents` leave free; extents that overlap are damage.
    pub fn around(mut extents: Vec<Extent>, layout: &Superblock) -> Result<Self> {
        extents.sort_unstable();
        let mut free = Self::default();
        let mut at = layout.extents_offset;
        for extent in extents {
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
        let space = bytes.checked_next_multiple_of(EXTENT_ALIGN)?;
        let fitting = self.holes.iter().filter(|(_, hole)| **hole >= space);
        let (&offset, &hole) = fitting.min_by_key(|(_, hole)| **hole)?;
        self.holes.remove(&offset);
        self.add(offset + space, hole - space);
        Some(Extent { offset, bytes })
    }

    /// Gives an extent's space back.
    pub fn give(&mut self, extent: Extent) {
        self.add(extent.offset, extent.space());
    }

    /// Adds the space by which the pool grew.
    pub fn add(&mut self, mut offset: u64, mut bytes: u64) {
        if bytes == 0 {
            return;
        }
        if let Some((&before, &length)) = self.holes.range(..offset).next_back()
            && before + length == offset
        {
            self.holes.remove(&before);
            (offset, bytes) = (before, bytes + length);
        }
        if let Some(length) = self.holes.remove(&(offset + bytes)) {
            bytes += length;
        }
        self.holes.insert(offset, bytes);
    }

    /// All free bytes.
    pub fn bytes(&self) -> u64 {
        self.holes.values().sum()
    }
}

#[cfg(test)]
mod tests;
