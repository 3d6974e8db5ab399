//! The superblock: who the pool is and where its parts lie. Two copies, written one after the other.

use std::sync::Arc;

use plinius_medium::{Error, PAGE, Region, Result};

use crate::twins::{HeapMap, Segment};

/// The format version that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 2;
/// Where the state line lies: behind the two copies.
pub const STATE_OFFSET: u64 = 2 * PAGE;
/// Where whoever opens the pool leaves a number of its own, in the state's line: one that lost its lock without noticing
/// finds another number there. It means nothing once the pool is closed.
pub const SESSION_OFFSET: u64 = STATE_OFFSET + 8;
/// Where the first segment of the heap begins.
pub const HEAP_OFFSET: u64 = 3 * PAGE;
/// A heap that doubles each time it grows does not need more.
pub const MAX_SEGMENTS: usize = 40;

/// How a pool begins.
pub const MAGIC: &[u8; 8] = b"PLINIUS\0";
/// Stands in the place of the magic while a pool is being created, so that a creation that was cut can begin again and
/// a damaged pool is never taken for one.
pub const CREATING: &[u8; 8] = b"PLINEW\0\0";
const WORDS: usize = 32;
const SEGMENTS: usize = 48;
const SEGMENT_BYTES: usize = 16;
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
    /// Where the two copies of the heap lie.
    pub heap: Arc<HeapMap>,
}

impl Superblock {
    /// The geometry of a new pool that has no extents yet.
    ///
    /// # Errors
    /// The heap is no multiple of a page, or longer than any file.
    pub fn new(pool_id: [u8; 16], heap_bytes: u64) -> Result<Self> {
        let pool_bytes = heap_bytes.checked_mul(2).and_then(|twins| twins.checked_add(HEAP_OFFSET));
        let pool_bytes = pool_bytes.filter(|_| heap_bytes >= PAGE && heap_bytes.is_multiple_of(PAGE));
        let pool_bytes = pool_bytes.ok_or_else(|| Error::corrupt("its superblock describes an impossible heap"))?;
        let heap = HeapMap::new(vec![Segment { offset: HEAP_OFFSET, bytes: heap_bytes }]);
        Ok(Self { pool_id, sequence: 1, pool_bytes, heap: Arc::new(heap) })
    }

    /// Where the extents begin; they end with the file, and the further segments of the heap lie among them.
    pub fn extents_offset(&self) -> u64 {
        HEAP_OFFSET + 2 * self.heap.segments()[0].bytes
    }

    /// The same with a further segment.
    pub fn with_segment(&self, segment: Segment) -> Self {
        let segments = [self.heap.segments(), &[segment]].concat();
        Self { sequence: self.sequence.saturating_add(1), heap: Arc::new(HeapMap::new(segments)), ..self.clone() }
    }

    /// The same with another length.
    pub fn with_length(&self, pool_bytes: u64) -> Self {
        Self { sequence: self.sequence.saturating_add(1), pool_bytes, ..self.clone() }
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

    /// Holds both copies on the medium against this one.
    pub fn check_copies(&self, pages: &[u8; 2 * PAGE as usize]) -> Result<()> {
        let page = self.encode();
        match pages.chunks_exact(PAGE as usize).position(|copy| copy != page) {
            None => Ok(()),
            Some(copy) => {
                Err(Error::corrupt(format!("its superblock {} was changed while it was open", ["A", "B"][copy.min(1)])))
            }
        }
    }

    fn encode(&self) -> [u8; PAGE as usize] {
        let mut page = [0; PAGE as usize];
        page[..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&(self.heap.segments().len() as u32).to_le_bytes());
        page[16..32].copy_from_slice(&self.pool_id);
        let segments = self.heap.segments().iter().flat_map(|segment| [segment.offset, segment.bytes]);
        let words = [self.sequence, self.pool_bytes].into_iter().chain(segments);
        for (slot, word) in page[WORDS..CHECK].chunks_exact_mut(8).zip(words) {
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
        let count = word(&page[12..16]) as usize;
        if !(1..=MAX_SEGMENTS).contains(&count) {
            return Err(Error::corrupt(format!("its superblock gives its heap {count} segments")));
        }
        let segments = page[SEGMENTS..].chunks_exact(SEGMENT_BYTES).take(count);
        let segments = segments.map(|pair| Segment { offset: word(&pair[..8]), bytes: word(&pair[8..]) }).collect();
        Ok(Self {
            pool_id: page[16..32].try_into().map_err(|_| Error::corrupt("its id is cut"))?,
            sequence: word(&page[32..40]),
            pool_bytes: word(&page[40..48]),
            heap: Arc::new(checked_heap(segments, word(&page[40..48]))?),
        })
    }

    fn check(&self, file_bytes: u64) -> Result<()> {
        if !self.pool_bytes.is_multiple_of(PAGE) || self.sequence == u64::MAX {
            return Err(Error::corrupt("its superblock gives an impossible size"));
        }
        if file_bytes < self.pool_bytes {
            let message = format!("the file was truncated: {file_bytes} bytes of {}", self.pool_bytes);
            return Err(Error::corrupt(message));
        }
        Ok(())
    }
}

/// The heap of these segments, which lie inside the pool in whole pages and apart: so it is not longer than the file, and
/// what is read of it in time and memory is bounded by the file. Extents that overlap them are found later.
fn checked_heap(segments: Vec<Segment>, pool_bytes: u64) -> Result<HeapMap> {
    let fits = |segment: &Segment| {
        let end = segment.bytes.checked_mul(2).and_then(|twins| twins.checked_add(segment.offset));
        let aligned = segment.offset.is_multiple_of(PAGE) && segment.bytes.is_multiple_of(PAGE);
        aligned && segment.bytes > 0 && end.is_some_and(|end| end <= pool_bytes)
    };
    let mut in_file = segments.clone();
    in_file.sort_unstable_by_key(|segment| segment.offset);
    let apart = |pair: &[Segment]| pair[0].offset + 2 * pair[0].bytes <= pair[1].offset;
    let first = segments[0].offset == HEAP_OFFSET && in_file[0].offset == HEAP_OFFSET;
    if !first || !segments.iter().all(fits) || !in_file.windows(2).all(apart) {
        return Err(Error::corrupt("its superblock describes an impossible heap"));
    }
    Ok(HeapMap::new(segments))
}

/// Decodes a little-endian number of up to eight bytes.
pub fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
