//! The heap's allocator. Blocks tile the heap from behind its header to `used`; a block is a header of two words (the bytes
//! of its payload, a multiple of 16, and what it is) and its payload. The free ones are indexed in volatile memory:
//! taking and freeing cost the logarithm of their number, best fit, neighbours merged at once.

use plinius_medium::{Error, Region, Result};

use crate::holes::Holes;
use crate::romulus::Mutation;
use crate::twins::{HEAP_HEADER_BYTES, Heap};

const HEADER_BYTES: u64 = 16;

/// What a block is. Any two marks differ in every byte, and a mark is stored XORed with the size: so no single changed
/// byte of a header gives another valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody's.
    Free,
    /// An entry of the catalog.
    Entry,
    /// A user's bytes.
    Data,
}

impl Kind {
    const MARKS: [(Self, u64); 3] = [
        (Self::Free, 0xf2ee_f2ee_f2ee_f2ee),
        (Self::Entry, 0xca7a_ca7a_ca7a_ca7a),
        (Self::Data, 0x0cc0_0cc0_0cc0_0cc0),
    ];

    fn parse(mark: u64) -> Option<Self> {
        Self::MARKS.iter().find(|(_, known)| *known == mark).map(|(kind, _)| *kind)
    }

    fn mark(self) -> u64 {
        match self {
            Self::Free => Self::MARKS[0].1,
            Self::Entry => Self::MARKS[1].1,
            Self::Data => Self::MARKS[2].1,
        }
    }
}

/// A block in use, by its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

impl Block {
    /// Where its payload lies in the heap: how an entry names it.
    pub fn at(self) -> u64 {
        self.at
    }

    /// Length of its payload: what was asked for, rounded up to a multiple of 16.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// The heap address of `len` bytes, starting `at` bytes into the payload.
    #[inline]
    pub(crate) fn place(self, at: u64, len: usize, heap_bytes: u64) -> Result<u64> {
        match at.checked_add(len as u64) {
            // The block may be of a longer heap: another pool's, or one that had not grown yet.
            Some(end) if end <= self.bytes && self.at + end <= heap_bytes => Ok(self.at + at),
            _ => Err(Error::Misuse(format!("{len} bytes at {at} are not inside a block of {}", self.bytes))),
        }
    }
}

/// What a walk over all blocks finds.
#[derive(Debug, Default)]
pub struct Scan {
    /// The free blocks, headers included.
    pub holes: Holes,
    /// The blocks that hold entries of the catalog.
    pub entries: Vec<Block>,
    /// The users' blocks.
    pub data: Vec<Block>,
}

/// Walks over all blocks and checks that they tile the used heap.
pub fn scan<H: Heap>(heap: &H) -> Result<Scan> {
    let used = heap.used()?;
    let mut scan = Scan::default();
    let mut at = HEAP_HEADER_BYTES;
    while at < used {
        let (block, kind) = read(heap, at, used)?;
        match kind {
            Kind::Free => drop(scan.holes.give(at, HEADER_BYTES + block.bytes)),
            Kind::Entry => scan.entries.push(block),
            Kind::Data => scan.data.push(block),
        }
        at = block.at + block.bytes;
    }
    Ok(scan)
}

/// The block of this kind whose payload begins at `payload`.
pub fn block_at<H: Heap>(heap: &H, payload: u64, kind: Kind) -> Result<Block> {
    let outside = || Error::corrupt(format!("its heap points at {payload}, where there is no such block"));
    if !payload.is_multiple_of(16) {
        return Err(outside());
    }
    let at = payload.checked_sub(HEADER_BYTES).filter(|at| *at >= HEAP_HEADER_BYTES).ok_or_else(outside)?;
    let (block, found) = read(heap, at, heap.used()?)?;
    if found == kind { Ok(block) } else { Err(outside()) }
}

fn read<H: Heap>(heap: &H, at: u64, used: u64) -> Result<(Block, Kind)> {
    let damaged = || Error::corrupt(format!("the block at {at} of its heap is damaged"));
    let room = used.checked_sub(at).and_then(|left| left.checked_sub(HEADER_BYTES)).ok_or_else(damaged)?;
    let (bytes, mark) = (heap.word(at), heap.word(at + 8));
    let kind = Kind::parse(mark ^ bytes).filter(|_| bytes <= room && bytes.is_multiple_of(16));
    Ok((Block { at: at + HEADER_BYTES, bytes }, kind.ok_or_else(damaged)?))
}

/// How many bytes the heap lacks to hold one more block of `bytes`; 0: it has them.
pub fn missing<H: Heap>(heap: &H, holes: &Holes, bytes: u64) -> Result<u64> {
    let space = space(bytes)?;
    let behind = heap.heap_bytes() - heap.used()?;
    Ok(if holes.longest() >= space { 0 } else { space.saturating_sub(behind) })
}

/// Takes a block of at least `bytes`, for which there is room (`missing`). Its payload holds anything.
pub fn allocate<R: Region>(tx: &mut Mutation<'_, R>, holes: &mut Holes, bytes: u64, kind: Kind) -> Result<Block> {
    let space = space(bytes)?;
    let at = match holes.take(space) {
        Some((at, 0)) => at,
        Some((at, rest)) => {
            write_header(tx, at + space, rest, Kind::Free)?;
            at
        }
        None => {
            let used = tx.used()?;
            // `missing` saw room for it, but somebody may change the pool meanwhile.
            let end = used.checked_add(space).filter(|end| *end <= tx.heap_bytes());
            tx.set_used(end.ok_or_else(|| Error::corrupt("the length of its heap was changed while it was open"))?)?;
            used
        }
    };
    write_header(tx, at, space, kind)
}

/// Gives a block back. Free space at the end of the heap is not used any more.
pub fn free<R: Region>(tx: &mut Mutation<'_, R>, holes: &mut Holes, block: Block) -> Result<()> {
    // Its own header too, where it disappears inside a longer free block: who frees it again is refused.
    write_header(tx, block.at - HEADER_BYTES, HEADER_BYTES + block.bytes, Kind::Free)?;
    let (at, space) = holes.give(block.at - HEADER_BYTES, HEADER_BYTES + block.bytes);
    if at + space == tx.used()? {
        holes.remove(at, space);
        return tx.set_used(at);
    }
    write_header(tx, at, space, Kind::Free).map(drop)
}

/// What a block occupies, header included.
fn space(bytes: u64) -> Result<u64> {
    let space = bytes.checked_next_multiple_of(16).and_then(|payload| payload.checked_add(HEADER_BYTES));
    space.ok_or_else(|| Error::Misuse(format!("no block has {bytes} bytes")))
}

fn write_header<R: Region>(tx: &mut Mutation<'_, R>, at: u64, space: u64, kind: Kind) -> Result<Block> {
    let bytes = space - HEADER_BYTES;
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&bytes.to_le_bytes());
    header[8..].copy_from_slice(&(kind.mark() ^ bytes).to_le_bytes());
    tx.store(at, &header)?;
    Ok(Block { at: at + HEADER_BYTES, bytes })
}

#[cfg(test)]
mod tests;
