//! The heap's allocator: blocks in address order, first fit, neighbours merged on the way.
//!
//! A block is a header of two words, its payload size in bytes (a multiple of 16) and whether it is in use, and its
//! payload. The blocks tile the heap from behind its header to `used`.

use crate::error::{Error, Result};
use crate::region::Region;
use crate::romulus::{HEAP_HEADER_BYTES, Heap, Transaction};

const BLOCK_HEADER_BYTES: u64 = 16;
const FREE: u64 = 0xf2ee_f2ee_f2ee_f2ee;
const IN_USE: u64 = 0x0cc0_0cc0_0cc0_0cc0;

/// One block, read and checked.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    at: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
    free: bool,
}

impl Block {
    /// Where the payload lies in the heap.
    pub fn payload(self) -> u64 {
        self.at + BLOCK_HEADER_BYTES
    }

    fn end(self) -> u64 {
        self.payload() + self.payload_bytes
    }

    fn read<H: Heap>(heap: &H, at: u64, used: u64) -> Result<Self> {
        let damaged = || Error::corrupt(format!("the block at {at} of its heap is damaged"));
        let room = used.checked_sub(at).and_then(|left| left.checked_sub(BLOCK_HEADER_BYTES)).ok_or_else(damaged)?;
        let (payload_bytes, mark) = (heap.word(at), heap.word(at + 8));
        if payload_bytes > room || !payload_bytes.is_multiple_of(16) || ![FREE, IN_USE].contains(&mark) {
            return Err(damaged());
        }
        Ok(Self { at, payload_bytes, free: mark == FREE })
    }
}

/// The block in use whose payload begins at `payload`.
pub fn block_at<H: Heap>(heap: &H, payload: u64) -> Result<Block> {
    let outside = || Error::corrupt(format!("its heap points at {payload}, where there is no block"));
    if !payload.is_multiple_of(16) {
        return Err(outside());
    }
    let at = payload.checked_sub(BLOCK_HEADER_BYTES).filter(|at| *at >= HEAP_HEADER_BYTES).ok_or_else(outside)?;
    let block = Block::read(heap, at, heap.used()?)?;
    if block.free { Err(outside()) } else { Ok(block) }
}

/// Takes a block of at least `bytes` and returns where its payload lies.
pub fn allocate<R: Region>(tx: &mut Transaction<'_, R>, bytes: u64) -> Result<u64> {
    let bytes = bytes.max(1).next_multiple_of(16);
    let used = tx.used()?;
    let mut at = HEAP_HEADER_BYTES;
    while at < used {
        let block = merged(tx, at, used)?;
        if block.free && block.payload_bytes >= bytes {
            return take(tx, block, bytes);
        }
        at = block.end();
    }
    extend(tx, used, bytes)
}

/// Gives a block back.
pub fn free<R: Region>(tx: &mut Transaction<'_, R>, payload: u64) -> Result<()> {
    let block = block_at(tx, payload)?;
    tx.store_word(block.at + 8, FREE)
}

/// The block at `at` together with every free one behind it, written as one if it is free itself.
fn merged<R: Region>(tx: &mut Transaction<'_, R>, at: u64, used: u64) -> Result<Block> {
    let mut block = Block::read(tx, at, used)?;
    let before = block.payload_bytes;
    while block.free && block.end() < used {
        let next = Block::read(tx, block.end(), used)?;
        if !next.free {
            break;
        }
        block.payload_bytes += BLOCK_HEADER_BYTES + next.payload_bytes;
    }
    if block.payload_bytes != before {
        tx.store_word(block.at, block.payload_bytes)?;
    }
    Ok(block)
}

fn take<R: Region>(tx: &mut Transaction<'_, R>, block: Block, bytes: u64) -> Result<u64> {
    let rest = block.payload_bytes - bytes;
    if rest >= 2 * BLOCK_HEADER_BYTES {
        let next = block.payload() + bytes;
        write_header(tx, next, rest - BLOCK_HEADER_BYTES, FREE)?;
        write_header(tx, block.at, bytes, IN_USE)?;
    } else {
        tx.store_word(block.at + 8, IN_USE)?;
    }
    Ok(block.payload())
}

fn extend<R: Region>(tx: &mut Transaction<'_, R>, used: u64, bytes: u64) -> Result<u64> {
    let free_bytes = tx.heap_bytes() - used;
    let needed_bytes = BLOCK_HEADER_BYTES.saturating_add(bytes);
    if needed_bytes > free_bytes {
        let advice = "create the pool with a larger heap_bytes";
        return Err(Error::Full { what: "the pool's heap", needed_bytes, free_bytes, advice });
    }
    write_header(tx, used, bytes, IN_USE)?;
    tx.set_used(used + needed_bytes)?;
    Ok(used + BLOCK_HEADER_BYTES)
}

fn write_header<R: Region>(tx: &mut Transaction<'_, R>, at: u64, payload_bytes: u64, mark: u64) -> Result<()> {
    tx.store_word(at, payload_bytes)?;
    tx.store_word(at + 8, mark)
}

#[cfg(test)]
mod tests;
