//! The catalog: named entries in the heap, each with a few public bytes and the extents that it owns.

use crate::alloc::{self, Block};
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::region::Region;
use crate::romulus::{Heap, Transaction};

/// Where the heap's header keeps the first entry.
const HEAD_OFFSET: u64 = 16;
/// Where it keeps the checksum of the list: where the entries lie, in order. Without it a damaged link could drop an
/// entry that nobody would miss.
const LIST_CHECK_OFFSET: u64 = 24;
const NEXT_BYTES: u64 = 8;
const FIXED_BYTES: usize = 24;
const EXTENT_BYTES: usize = 16;
/// Longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// A named thing in the pool: a mirror, a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unique in the pool.
    pub name: String,
    /// Public bytes whose meaning is the owner's.
    pub meta: Vec<u8>,
    /// The extents that the entry owns.
    pub extents: Vec<Extent>,
}

impl Entry {
    fn encode(&self) -> Result<Vec<u8>> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            return Err(Error::Misuse(format!(
                "a name in the catalog has 1 to {MAX_NAME_BYTES} bytes: {:?}",
                self.name
            )));
        }
        let mut body =
            Vec::with_capacity(FIXED_BYTES + self.name.len() + self.meta.len() + self.extents.len() * EXTENT_BYTES);
        body.extend([0; 4]);
        body.extend((self.name.len() as u32).to_le_bytes());
        body.extend((self.meta.len() as u64).to_le_bytes());
        body.extend((self.extents.len() as u64).to_le_bytes());
        for extent in &self.extents {
            body.extend(extent.offset.to_le_bytes());
            body.extend(extent.bytes.to_le_bytes());
        }
        body.extend(self.name.as_bytes());
        body.extend(&self.meta);
        let check = crc32fast::hash(&body[4..]);
        body[..4].copy_from_slice(&check.to_le_bytes());
        Ok(body)
    }

    /// Parses a private copy of an entry; `room` is what its block holds behind the link.
    fn parse(body: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("an entry of its catalog is damaged");
        let mut reader = Reader(body);
        let check = reader.take(4).ok_or_else(damaged)?;
        let name_bytes = reader.take(4).map(little_endian).ok_or_else(damaged)?;
        let meta_bytes = reader.take(8).map(little_endian).ok_or_else(damaged)?;
        let extent_count = reader.take(8).map(little_endian).ok_or_else(damaged)?;
        let extents =
            reader.take_u64(extent_count.checked_mul(EXTENT_BYTES as u64).ok_or_else(damaged)?).ok_or_else(damaged)?;
        let name = reader.take_u64(name_bytes).ok_or_else(damaged)?;
        let meta = reader.take_u64(meta_bytes).ok_or_else(damaged)?;
        let whole = &body[4..body.len() - reader.0.len()];
        if check != crc32fast::hash(whole).to_le_bytes() || name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(damaged());
        }
        let extents = extents.chunks_exact(EXTENT_BYTES).map(|pair| {
            let (offset, bytes) = pair.split_at(8);
            Extent { offset: little_endian(offset), bytes: little_endian(bytes) }
        });
        Ok(Self {
            name: String::from_utf8(name.to_vec()).map_err(|_| damaged())?,
            meta: meta.to_vec(),
            extents: extents.collect(),
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_u64(&mut self, len: u64) -> Option<&'a [u8]> {
        self.take(usize::try_from(len).ok()?)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// An entry and where it hangs: `link` is the word that points at it.
struct Located {
    link: u64,
    payload: u64,
    next: u64,
    entry: Entry,
}

/// All entries, in the order of the list.
pub fn read<H: Heap>(heap: &H) -> Result<Vec<Entry>> {
    Ok(list(heap)?.into_iter().map(|located| located.entry).collect())
}

/// Puts an entry in the place of the one of the same name, and returns that one.
pub fn put<R: Region>(tx: &mut Transaction<'_, R>, entry: &Entry) -> Result<Option<Entry>> {
    let old = remove(tx, &entry.name)?;
    let rest = list(tx)?;
    let body = entry.encode()?;
    let payload = alloc::allocate(tx, NEXT_BYTES + body.len() as u64)?;
    let head = tx.word(HEAD_OFFSET);
    tx.store_word(payload, head)?;
    tx.store(payload + NEXT_BYTES, &body)?;
    tx.store_word(HEAD_OFFSET, payload)?;
    store_check(tx, std::iter::once(payload).chain(rest.iter().map(|located| located.payload)))?;
    Ok(old)
}

/// Removes the entry of a name and returns it.
pub fn remove<R: Region>(tx: &mut Transaction<'_, R>, name: &str) -> Result<Option<Entry>> {
    let mut all = list(tx)?;
    let Some(place) = all.iter().position(|located| located.entry.name == name) else { return Ok(None) };
    let found = all.remove(place);
    tx.store_word(found.link, found.next)?;
    store_check(tx, all.iter().map(|located| located.payload))?;
    alloc::free(tx, found.payload)?;
    Ok(Some(found.entry))
}

/// Walks the list and checks it. Its entries do not overlap, so one that is longer than the heap runs in a circle.
fn list<H: Heap>(heap: &H) -> Result<Vec<Located>> {
    let mut all: Vec<Located> = Vec::new();
    let mut room = heap.heap_bytes();
    let mut link = HEAD_OFFSET;
    loop {
        let payload = heap.word(link);
        if payload == 0 {
            break;
        }
        let block = alloc::block_at(heap, payload)?;
        room = room.checked_sub(block.payload_bytes).ok_or_else(|| Error::corrupt("its catalog runs in a circle"))?;
        all.push(locate(heap, link, block)?);
        link = payload;
    }
    if heap.word(LIST_CHECK_OFFSET) != check(all.iter().map(|located| located.payload)) {
        return Err(Error::corrupt("a link of its catalog is damaged"));
    }
    Ok(all)
}

fn locate<H: Heap>(heap: &H, link: u64, block: Block) -> Result<Located> {
    let mut bytes = vec![0; block.payload_bytes as usize];
    heap.load(block.payload(), &mut bytes);
    let (next, body) = bytes.split_at_checked(NEXT_BYTES as usize).ok_or_else(|| Error::corrupt("an entry is cut"))?;
    Ok(Located { link, payload: block.payload(), next: little_endian(next), entry: Entry::parse(body)? })
}

fn check(payloads: impl Iterator<Item = u64>) -> u64 {
    let mut check = crc32fast::Hasher::new();
    payloads.for_each(|payload| check.update(&payload.to_le_bytes()));
    check.finalize().into()
}

fn store_check<R: Region>(tx: &mut Transaction<'_, R>, payloads: impl Iterator<Item = u64>) -> Result<()> {
    tx.store_word(LIST_CHECK_OFFSET, check(payloads))
}

#[cfg(test)]
mod tests;
