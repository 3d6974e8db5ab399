//! The pool as what is explored: everything that it holds, and what must add up in it.

use std::fmt;
use std::sync::Arc;

use plinius_pm::{Entry, Error, Extent, Options, Pool, Stats};

use crate::explorer::Subject;
use crate::record::Recorder;

/// The smallest heap: the smaller the file, the more images a second.
pub const OPTIONS: Options =
    Options { max_bytes: None, heap_bytes: 4096, pool_id: [7; 16], flush: None, require: None };

/// Where the first segment of the heap begins (`docs/design.md`, section 2).
const HEAP_OFFSET: u64 = 12288;
const HEAP_HEADER_BYTES: u64 = 64;
const BLOCK_HEADER_BYTES: u64 = 16;
const ENTRY_FIXED_BYTES: u64 = 32;
const ENTRY_EXTENT_BYTES: u64 = 16;

/// A pool over a region that records.
pub type Recorded = Arc<Pool<Recorder>>;

/// Everything that a pool holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    /// Length of the file.
    pub pool_bytes: u64,
    /// Length of the heap.
    pub heap_bytes: u64,
    /// What its users see.
    pub kept: Kept,
}

/// What the users of a pool see.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// Transactions so far.
    pub commits: u64,
    /// By name.
    pub entries: Vec<KeptEntry>,
    /// The users' blocks, by their place, and their bytes.
    pub blocks: Vec<(u64, Vec<u8>)>,
}

/// An entry and what it owns.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// As the catalog has it.
    pub entry: Entry,
    /// The bytes of its extents.
    pub extents: Vec<Vec<u8>>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "pool {} bytes, heap {}, {:?}", self.pool_bytes, self.heap_bytes, self.kept)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} commits", self.commits)?;
        for KeptEntry { entry, extents } in &self.entries {
            write!(out, "; {:?} = {} at {}", entry.name, brief(&entry.meta), entry.block)?;
            for (extent, bytes) in entry.extents.iter().zip(extents) {
                write!(out, ", extent at {} {}", extent.offset, brief(bytes))?;
            }
        }
        for (at, bytes) in &self.blocks {
            write!(out, "; block at {at} {}", brief(bytes))?;
        }
        Ok(())
    }
}

/// Runs of one byte, told shortly.
fn brief(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|one, other| one == other).map(|run| format!("{:02x}*{}", run[0], run.len()));
    let told: Vec<String> = runs.take(12).collect();
    format!("[{}]", told.join(" "))
}

/// The pool.
pub struct PoolSubject;

impl Subject for PoolSubject {
    type Open = Recorded;
    type Contents = Contents;

    fn open(&self, region: Recorder) -> Result<Recorded, String> {
        Pool::over(region, OPTIONS).map_err(told)
    }

    fn contents(&self, pool: &Recorded) -> Result<Contents, String> {
        let (contents, stats) = read(pool).map_err(told)?;
        check(&contents, &stats)?;
        Ok(contents)
    }

    fn ways(&self) -> usize {
        3
    }

    fn go_on(&self, pool: &Recorded, way: usize, before: &Contents) -> Result<Contents, String> {
        let mut expected = before.kept.clone();
        match way {
            0 => put_entry(pool, &mut expected),
            1 => put_block(pool, &mut expected),
            // This writes the superblock, of which a recovery must leave both copies in order, and nothing else.
            _ => pool.reserve(&[pool.bytes().1 + 1]).map(drop),
        }
        .map_err(told)?;
        let after = self.contents(pool)?;
        if after.kept == expected {
            Ok(after)
        } else {
            Err(format!("instead of {expected:?} there is {:?}", after.kept))
        }
    }

    fn is_legal(&self, before: &Contents, after: &Contents, found: &Contents) -> bool {
        // The pool grows before the transaction commits that needs the room.
        let may_have_grown = (before.pool_bytes..=after.pool_bytes).contains(&found.pool_bytes)
            && (before.heap_bytes..=after.heap_bytes).contains(&found.heap_bytes);
        found == after || (found.kept == before.kept && may_have_grown)
    }
}

fn put_entry(pool: &Recorded, kept: &mut Kept) -> Result<(), Error> {
    let entry = Entry { name: "more".into(), meta: vec![7; 3], block: 0, extents: Vec::new() };
    let mut tx = pool.transaction()?;
    tx.set(&entry.name, &entry.meta, entry.block)?;
    tx.commit()?;
    let place = kept.entries.partition_point(|other| other.entry.name < entry.name);
    kept.entries.insert(place, KeptEntry { entry, extents: Vec::new() });
    kept.commits += 1;
    Ok(())
}

fn put_block(pool: &Recorded, kept: &mut Kept) -> Result<(), Error> {
    let mut tx = pool.transaction()?;
    let block = tx.allocate(1)?;
    tx.commit()?;
    let place = kept.blocks.partition_point(|(other, _)| *other < block);
    kept.blocks.insert(place, (block, vec![0; 16]));
    kept.commits += 1;
    Ok(())
}

/// Reads everything.
fn read(pool: &Recorded) -> Result<(Contents, Stats), Error> {
    let read = |extent: &Extent| {
        let mut bytes = vec![0; extent.bytes as usize];
        pool.read(*extent, 0, &mut bytes).map(|()| bytes)
    };
    let with_extents = |entry: Entry| {
        let extents = entry.extents.iter().map(read).collect::<Result<_, _>>()?;
        Ok::<_, Error>(KeptEntry { entry, extents })
    };
    let entries = pool.entries().into_iter().map(with_extents).collect::<Result<_, _>>()?;
    let report = pool.verify()?;
    if let Some(problem) = report.problems.first() {
        return Err(Error::Corrupt(problem.clone()));
    }
    let snapshot = pool.snapshot()?;
    let load = |at: u64| {
        let block = snapshot.block(at)?;
        let mut bytes = vec![0; block.bytes() as usize];
        snapshot.load(block, 0, &mut bytes).map(|()| (at, bytes))
    };
    let blocks = report.blocks.into_iter().map(load).collect::<Result<_, _>>()?;
    let stats = pool.stats()?;
    let kept = Kept { commits: stats.commits, entries, blocks };
    Ok((Contents { pool_bytes: stats.pool_bytes, heap_bytes: stats.heap_bytes, kept }, stats))
}

/// Nothing may leak: what nobody holds is free.
fn check(contents: &Contents, stats: &Stats) -> Result<(), String> {
    let Contents { pool_bytes, heap_bytes, kept } = contents;
    let entries = || kept.entries.iter().map(|kept| &kept.entry);
    let extents: u64 = entries().flat_map(|entry| &entry.extents).map(|extent| extent.space()).sum();
    let free_bytes = pool_bytes - HEAP_OFFSET - 2 * heap_bytes - extents;
    let held = entries().map(entry_bytes).chain(kept.blocks.iter().map(|(_, bytes)| bytes.len() as u64));
    let heap_free_bytes = heap_bytes - HEAP_HEADER_BYTES - held.map(|bytes| bytes + BLOCK_HEADER_BYTES).sum::<u64>();
    if (stats.free_bytes, stats.heap_free_bytes) == (free_bytes, heap_free_bytes) {
        return Ok(());
    }
    Err(format!("{free_bytes} bytes of the pool and {heap_free_bytes} of the heap should be free, but {stats:?}"))
}

/// What the block of an entry holds, as `docs/design.md` has it.
fn entry_bytes(entry: &Entry) -> u64 {
    let bytes = ENTRY_FIXED_BYTES + ENTRY_EXTENT_BYTES * entry.extents.len() as u64;
    (bytes + entry.name.len() as u64 + entry.meta.len() as u64).next_multiple_of(16)
}

fn told(error: Error) -> String {
    error.to_string()
}
