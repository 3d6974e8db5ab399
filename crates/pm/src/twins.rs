//! The heap and where its two copies lie: `main`, which a transaction changes in place, and `back`.
//!
//! A heap is one run of addresses from zero. In the file it is made of segments, each of which holds its part of main
//! and, right behind, its part of back; it grows by a further segment.
use plinius_medium::{Error, Region, Result};

/// Bytes at the start of the heap that hold its own words.
pub const HEAP_HEADER_BYTES: u64 = 64;
/// Where the header says how much of the heap is in use; the complement of that word follows. Without it a changed byte
/// could cut off the last blocks, or bring back ones that were freed.
pub const USED_OFFSET: u64 = 0;
/// Where the header counts the transactions.
pub const COMMITS_OFFSET: u64 = 16;

/// The words that say how much of a heap is in use.
pub fn used_words(used: u64) -> [u8; 16] {
    let mut words = [0; 16];
    words[..8].copy_from_slice(&used.to_le_bytes());
    words[8..].copy_from_slice(&(!used).to_le_bytes());
    words
}

/// One of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// The one that a transaction changes in place.
    Main,
    /// The one that holds the last committed state meanwhile.
    Back,
}

/// A part of both copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where main's part lies in the file; back's follows it.
    pub offset: u64,
    /// Length of each part.
    pub bytes: u64,
}

/// The segments in heap order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapMap {
    segments: Vec<Segment>,
    bytes: u64,
}

impl HeapMap {
    /// Maps a heap of these segments, whose lengths together do not overflow: the superblock checks that.
    pub fn new(segments: Vec<Segment>) -> Self {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Self { segments, bytes }
    }

    /// Length of the heap.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The segments, in heap order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where a heap address lies in the file, and how many bytes of its segment are left from there on.
    #[inline]
    pub fn locate(&self, twin: Twin, at: u64) -> (u64, u64) {
        let mut start = at;
        for segment in &self.segments {
            if start < segment.bytes {
                let back = if twin == Twin::Back { segment.bytes } else { 0 };
                return (segment.offset + back + start, segment.bytes - start);
            }
            start -= segment.bytes;
        }
        panic!("address {at} is outside the heap of {} bytes", self.bytes);
    }
}

/// Reading a heap by addresses that were checked against `heap_bytes`.
pub trait Heap {
    /// Length of the heap.
    fn heap_bytes(&self) -> u64;
    /// Copies bytes out of the heap.
    fn load(&self, at: u64, out: &mut [u8]);

    /// Reads one word.
    #[inline]
    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.load(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// How much of the heap is in use, checked.
    fn used(&self) -> Result<u64> {
        let (used, heap_bytes) = (self.word(USED_OFFSET), self.heap_bytes());
        let whole = self.word(USED_OFFSET + 8) == !used;
        if whole && (HEAP_HEADER_BYTES..=heap_bytes).contains(&used) && used.is_multiple_of(16) {
            return Ok(used);
        }
        Err(Error::corrupt(format!("its heap says that {used} of {heap_bytes} bytes are in use")))
    }

    /// How many transactions were committed.
    fn commits(&self) -> u64 {
        self.word(COMMITS_OFFSET)
    }
}

/// One copy of the heap, for reading. The caller keeps writers away from it.
pub struct Half<'a, R: Region> {
    /// Where the pool lies.
    pub region: &'a R,
    /// Where its heap lies in there.
    pub map: &'a HeapMap,
    /// Which copy.
    pub twin: Twin,
}

impl<R: Region> Heap for Half<'_, R> {
    #[inline]
    fn heap_bytes(&self) -> u64 {
        self.map.bytes()
    }

    #[inline]
    fn load(&self, at: u64, out: &mut [u8]) {
        if out.is_empty() {
            return; // It may lie at the very end.
        }
        let (offset, room) = self.map.locate(self.twin, at);
        if out.len() as u64 <= room {
            return self.region.load(offset, out);
        }
        self.load_across(at, out, room as usize);
    }
}

impl<R: Region> Half<'_, R> {
    /// Loads what lies in several segments.
    #[cold]
    fn load_across(&self, at: u64, out: &mut [u8], room: usize) {
        let (here, rest) = out.split_at_mut(room);
        self.load(at, here);
        self.load(at + room as u64, rest);
    }
}
