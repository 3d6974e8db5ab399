//! The catalog: named entries in the heap, each with a few public bytes and the extents that it owns.

use crate::alloc;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::region::Region;
use crate::romulus::{Heap, Transaction};

/// Where the heap's header keeps the first entry.
const HEAD_OFFSET: u64 = 16;
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
    walk(heap).map(|found| Ok(found?.entry)).collect()
}

/// Puts an entry in the place of the one of the same name, and returns that one.
pub fn put<R: Region>(tx: &mut Transaction<'_, R>, entry: &Entry) -> Result<Option<Entry>> {
    let old = remove(tx, &entry.name)?;
    let body = entry.encode()?;
    let payload = alloc::allocate(tx, NEXT_BYTES + body.len() as u64)?;
    let head = tx.word(HEAD_OFFSET);
    tx.store_word(payload, head)?;
    tx.store(payload + NEXT_BYTES, &body)?;
    tx.store_word(HEAD_OFFSET, payload)?;
    Ok(old)
}

/// Removes the entry of a name and returns it.
pub fn remove<R: Region>(tx: &mut Transaction<'_, R>, name: &str) -> Result<Option<Entry>> {
    let found = walk(tx).find(|found| found.as_ref().map_or(true, |found| found.entry.name == name)).transpose()?;
    let Some(found) = found else { return Ok(None) };
    tx.store_word(found.link, found.next)?;
    alloc::free(tx, found.payload)?;
    Ok(Some(found.entry))
}

/// Walks the list. One with more entries than the heap has room for runs in a circle.
fn walk<H: Heap>(heap: &H) -> impl Iterator<Item = Result<Located>> {
    let mut link = HEAD_OFFSET;
    let mut room = heap.heap_bytes() / FIXED_BYTES as u64;
    std::iter::from_fn(move || {
        let payload = heap.word(link);
        if payload == 0 {
            return None;
        }
        let found = match room {
            0 => Err(Error::corrupt("its catalog runs in a circle")),
            _ => locate(heap, link, payload),
        };
        room = room.saturating_sub(1);
        link = payload;
        Some(found)
    })
    .scan(false, |failed, found| {
        let last = *failed;
        *failed = found.is_err();
        (!last).then_some(found)
    })
}

fn locate<H: Heap>(heap: &H, link: u64, payload: u64) -> Result<Located> {
    let block = alloc::block_at(heap, payload)?;
    let mut bytes = vec![0; block.payload_bytes as usize];
    heap.load(payload, &mut bytes);
    let (next, body) = bytes.split_at_checked(NEXT_BYTES as usize).ok_or_else(|| Error::corrupt("an entry is cut"))?;
    Ok(Located { link, payload, next: little_endian(next), entry: Entry::parse(body)? })
}
