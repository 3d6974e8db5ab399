//! The superblock: who the pool is and where its parts lie. Two copies, written one after the other.

use crate::error::{Error, Result};
use crate::region::Region;

/// The format version that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// Size of one copy, and of the page that holds the state line.
pub const PAGE: u64 = 4096;
/// Where the state line lies: behind the two copies.
pub const STATE_OFFSET: u64 = 2 * PAGE;
/// Where the main heap begins.
pub const HEAPS_OFFSET: u64 = 3 * PAGE;

const MAGIC: &[u8; 8] = b"PLINIUS\0";
/// Stands in the place of the magic while a pool is being created, so that a creation that was cut can begin again and
/// a damaged pool is never taken for one.
pub const CREATING: &[u8; 8] = b"PLINEW\0\0";
/// The longest heap: many millions of tensors, and a bound to what a changed superblock can make anybody read.
pub const MAX_HEAP_BYTES: u64 = 256 << 20;
const USED: usize = 80;
const CHECK: usize = PAGE as usize - 4;

/// Identity and geometry of a pool; offsets and sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Random, made at creation.
    pub pool_id: [u8; 16],
    /// Counts the writings of the superblock: the higher copy is the newer.
    pub sequence: u64,
    /// Length of the file.
    pub pool_bytes: u64,
    /// Where the main heap lies.
    pub main_offset: u64,
    /// Where the back heap lies.
    pub back_offset: u64,
    /// Length of each heap.
    pub heap_bytes: u64,
    /// Where the extents begin; they end with the file.
    pub extents_offset: u64,
}

impl Superblock {
    /// The geometry of a new pool that has no extents yet.
    pub fn new(pool_id: [u8; 16], heap_bytes: u64) -> Self {
        let back_offset = HEAPS_OFFSET + heap_bytes;
        let extents_offset = back_offset + heap_bytes;
        Self {
            pool_id,
            sequence: 1,
            pool_bytes: extents_offset,
            main_offset: HEAPS_OFFSET,
            back_offset,
            heap_bytes,
            extents_offset,
        }
    }

    /// Writes both copies, each durable before the other is touched.
    pub fn store<R: Region>(&self, region: &R) -> Result<()> {
        let page = self.encode();
        // ORDER: B first: while A is being created it holds the marker, and A valid means that all is in place.
        for at in [PAGE, 0] {
            region.store(at, &page);
            region.pwb(at, PAGE);
            region.psync()?;
        }
        Ok(())
    }

    /// Writes anew each copy that is not this one, which was read from the other. A crash between the two leaves one
    /// behind: were it left there, the next crash while the good one is written would bring it back.
    pub fn repair<R: Region>(&self, region: &R) -> Result<()> {
        let page = self.encode();
        for at in [PAGE, 0] {
            let mut found = [0; PAGE as usize];
            region.load(at, &mut found);
            if found != page {
                region.store(at, &page);
                region.pwb(at, PAGE);
                // ORDER: at most one copy is being written at any time.
                region.psync()?;
            }
        }
        Ok(())
    }

    /// Chooses the newer valid copy of two pages and checks it against the length of the file.
    pub fn parse(pages: &[u8; 2 * PAGE as usize], file_bytes: u64) -> Result<Self> {
        let (a, b) = pages.split_at(PAGE as usize);
        let newest = match (Self::decode(a), Self::decode(b)) {
            (Ok(a), Ok(b)) => {
                if b.sequence > a.sequence {
                    b
                } else {
                    a
                }
            }
            (Ok(valid), Err(_)) | (Err(_), Ok(valid)) => valid,
            (Err(error), Err(_)) => return Err(error),
        };
        newest.check(file_bytes)?;
        Ok(newest)
    }

    fn encode(&self) -> [u8; PAGE as usize] {
        let mut page = [0; PAGE as usize];
        page[..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        page[16..32].copy_from_slice(&self.pool_id);
        let words =
            [self.sequence, self.pool_bytes, self.main_offset, self.back_offset, self.heap_bytes, self.extents_offset];
        for (slot, word) in page[32..USED].chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let check = crc32fast::hash(&page[..CHECK]);
        page[CHECK..].copy_from_slice(&check.to_le_bytes());
        page
    }

    fn decode(page: &[u8]) -> Result<Self> {
        if &page[..8] != MAGIC {
            return Err(Error::NotAPool("it does not begin as one"));
        }
        if page[CHECK..] != crc32fast::hash(&page[..CHECK]).to_le_bytes() {
            return Err(Error::corrupt("the checksum of its superblock is wrong"));
        }
        let found = u32::from_le_bytes([page[8], page[9], page[10], page[11]]);
        if found != FORMAT_VERSION {
            return Err(Error::Version { found, known: FORMAT_VERSION });
        }
        let mut words = page[32..USED].chunks_exact(8).map(word);
        let mut next = || words.next().unwrap_or_default();
        Ok(Self {
            pool_id: page[16..32].try_into().map_err(|_| Error::corrupt("its id is cut"))?,
            sequence: next(),
            pool_bytes: next(),
            main_offset: next(),
            back_offset: next(),
            heap_bytes: next(),
            extents_offset: next(),
        })
    }

    fn check(&self, file_bytes: u64) -> Result<()> {
        let expected = Self {
            sequence: self.sequence,
            pool_bytes: self.pool_bytes,
            ..Self::new(self.pool_id, self.heap_bytes.min(MAX_HEAP_BYTES))
        };
        if *self != expected || !self.heap_bytes.is_multiple_of(PAGE) || self.heap_bytes == 0 {
            return Err(Error::corrupt("its superblock describes an impossible layout"));
        }
        if self.pool_bytes < self.extents_offset || !self.pool_bytes.is_multiple_of(PAGE) {
            return Err(Error::corrupt("its superblock gives an impossible size"));
        }
        if file_bytes < self.pool_bytes {
            let message = format!("the file was truncated: {file_bytes} bytes of {}", self.pool_bytes);
            return Err(Error::corrupt(message));
        }
        Ok(())
    }
}

/// Decodes a little-endian word of eight bytes.
pub fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
