//! The catalog: named entries, each with a few public bytes, the heap block that it names, and the extents that it owns.
//!
//! An entry is a block of its own kind in the heap; no pointer leads to it. Opening finds the entries by walking over the
//! blocks, checks each once, and from then on the private index is what counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use plinius_medium::{Error, Extent, Result};

use crate::alloc::{Block, Scan};
use crate::superblock::word;
use crate::twins::Heap;

const FIXED_BYTES: usize = 32;
const EXTENT_BYTES: usize = 16;
/// Longest entry: millions of extents, and a bound to what a changed pool can make anybody allocate.
const MAX_ENTRY_BYTES: usize = 64 << 20;
/// Longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// A named thing in the pool: a mirror, a data set, an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unique in the pool.
    pub name: String,
    /// Public bytes whose meaning is the owner's.
    pub meta: Vec<u8>,
    /// The heap block that the entry names, by its payload; 0: none.
    pub block: u64,
    /// The extents that the entry owns.
    pub extents: Vec<Extent>,
}

impl Entry {
    /// The bytes of an entry on the medium.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            let name = &self.name;
            return Err(Error::Misuse(format!("a name in the catalog has 1 to {MAX_NAME_BYTES} bytes: {name:?}")));
        }
        let mut body = vec![0; 4];
        body.extend((self.name.len() as u32).to_le_bytes());
        for word in [self.meta.len() as u64, self.extents.len() as u64, self.block] {
            body.extend(word.to_le_bytes());
        }
        for extent in &self.extents {
            body.extend(extent.offset.to_le_bytes());
            body.extend(extent.bytes.to_le_bytes());
        }
        body.extend(self.name.as_bytes());
        body.extend(&self.meta);
        if body.len() > MAX_ENTRY_BYTES {
            return Err(Error::Misuse(format!("the entry {:?} would have {} bytes", self.name, body.len())));
        }
        let check = crc32fast::hash(&body[4..]);
        body[..4].copy_from_slice(&check.to_le_bytes());
        Ok(body)
    }

    /// Parses a private copy of a block.
    pub(crate) fn parse(block: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("an entry of its catalog is damaged");
        let (fixed, behind) = block.split_at_checked(FIXED_BYTES).ok_or_else(damaged)?;
        let mut rest = behind;
        let mut take = |bytes: u64| {
            let (taken, left) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
            rest = left;
            Some(taken)
        };
        let extents = word(&fixed[16..24]).checked_mul(EXTENT_BYTES as u64).and_then(&mut take).ok_or_else(damaged)?;
        let name = take(word(&fixed[4..8])).ok_or_else(damaged)?;
        let meta = take(word(&fixed[8..16])).ok_or_else(damaged)?;
        let whole = &block[4..block.len() - rest.len()];
        if fixed[..4] != crc32fast::hash(whole).to_le_bytes() || name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(damaged());
        }
        Ok(Self {
            name: String::from_utf8(name.to_vec()).map_err(|_| damaged())?,
            meta: meta.to_vec(),
            block: word(&fixed[24..]),
            extents: extents
                .chunks_exact(EXTENT_BYTES)
                .map(|pair| Extent { offset: word(&pair[..8]), bytes: word(&pair[8..]) })
                .collect(),
        })
    }
}

/// An entry and the block that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// In the heap.
    pub holder: Block,
    /// A private, checked copy.
    pub entry: Arc<Entry>,
}

/// The private index of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    by_name: HashMap<String, Located>,
    /// Which entry names a block.
    owners: HashMap<u64, String>,
    /// The users' blocks: a place that is named and not here is none, whatever its bytes look like.
    blocks: HashSet<u64>,
}

impl Index {
    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<&Located> {
        self.by_name.get(name)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Located> {
        self.by_name.values()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The name of the entry that names a block.
    pub fn owner(&self, block: u64) -> Option<&str> {
        self.owners.get(&block).map(String::as_str)
    }

    /// Refuses what is no block of a user.
    pub fn check_block(&self, block: u64) -> Result<()> {
        if self.blocks.contains(&block) { Ok(()) } else { Err(no_block(block)) }
    }

    /// Takes over which blocks a transaction gave back, and which it took.
    pub fn change_blocks(&mut self, freed: &HashSet<u64>, taken: &HashSet<u64>) {
        for block in freed {
            self.blocks.remove(block);
        }
        self.blocks.extend(taken);
    }

    /// Puts an entry, in the place of the one of its name.
    pub fn insert(&mut self, located: Located) {
        let name = &located.entry.name;
        self.remove(name);
        if located.entry.block != 0 {
            self.owners.insert(located.entry.block, name.clone());
        }
        self.by_name.insert(name.clone(), located);
    }

    /// Removes the entry of a name.
    pub fn remove(&mut self, name: &str) {
        let Some(old) = self.by_name.remove(name) else { return };
        if self.owner(old.entry.block) == Some(name) {
            self.owners.remove(&old.entry.block);
        }
    }
}

/// The error for a place that is no block of a user.
pub fn no_block(block: u64) -> Error {
    Error::corrupt(format!("its heap points at {block}, where there is no such block"))
}

/// Reads the entries that a scan has found. Every name is there once, and no two entries name one block.
pub fn read<H: Heap>(heap: &H, scan: &Scan) -> Result<Index> {
    let mut unnamed: HashSet<u64> = scan.data.iter().map(|block| block.at).collect();
    let mut index = Index { blocks: unnamed.clone(), ..Index::default() };
    for &holder in &scan.entries {
        if holder.bytes > (MAX_ENTRY_BYTES as u64).next_multiple_of(16) {
            return Err(Error::corrupt(format!("an entry of its catalog has {} bytes", holder.bytes)));
        }
        let mut bytes = vec![0; holder.bytes as usize];
        heap.load(holder.at, &mut bytes);
        let entry = Arc::new(Entry::parse(&bytes)?);
        if entry.block != 0 && !unnamed.remove(&entry.block) {
            return Err(Error::corrupt(format!("the entry {:?} names a block that is not its own", entry.name)));
        }
        if index.get(&entry.name).is_some() {
            return Err(Error::corrupt(format!("there are two entries {:?}", entry.name)));
        }
        index.insert(Located { holder, entry });
    }
    Ok(index)
}

#[cfg(test)]
mod tests;
