//! Looking a whole pool over: its structure, and main against back. And counting what it holds.

use plinius_medium::{Error, PAGE, Region, Result, load_u64};

use crate::alloc;
use crate::catalog;
use crate::extent::FreeSpace;
use crate::pool::{Pool, extents};
use crate::romulus::State;
use crate::superblock::{STATE_OFFSET, Superblock};
use crate::turn::this_thread;
use crate::twins::{Half, Heap, Twin};

const COMPARED_BYTES: usize = 64 << 10;
/// More differences than this say nothing new.
const MAX_DIFFERENCES: usize = 8;

/// What a look over a pool has found.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong, in words; empty when the pool is whole.
    pub problems: Vec<String>,
    /// The users' blocks, by their payloads: whoever keeps track of them can find leaks.
    pub blocks: Vec<u64>,
}

/// How large a pool is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Length of the file.
    pub pool_bytes: u64,
    /// How much of it is free for extents.
    pub free_bytes: u64,
    /// Length of the heap; the file has it twice.
    pub heap_bytes: u64,
    /// How much of the heap is free.
    pub heap_free_bytes: u64,
    /// Entries of the catalog.
    pub entries: u64,
    /// Users' blocks in the heap.
    pub blocks: u64,
    /// Transactions committed since the pool was created.
    pub commits: u64,
}

impl<R: Region> Pool<R> {
    /// Reads all of the pool's structure and both copies of the heap. It waits for a running transaction, and holds up
    /// the next one.
    ///
    /// Every changed byte is found but these, which nothing ever reads: the state line behind its word, what lies in
    /// the heaps behind their used part, and free extents. The bytes in extents are their owners': sealed ones are checked when
    /// they are opened.
    ///
    /// # Errors
    /// This thread runs a transaction; the file was cut or its medium failed.
    pub fn verify(&self) -> Result<Report> {
        self.check_owner()?;
        self.refuse_nested(this_thread())?;
        let writer = self.writer.lock();
        self.check_usable()?;
        // Held for that alone: the pool may grow meanwhile, and its length is asked for by others.
        let (layout, superblocks) = {
            let space = self.space.lock();
            (&space.layout.clone(), self.check_superblocks(&space.layout))
        };
        let (blocks, structure) = match self.check_structure(layout) {
            Ok(blocks) => (blocks, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let checks = [superblocks, self.check_state(), self.check_alone(&writer), structure];
        let mut problems: Vec<String> = checks.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
        problems.extend(self.differences(layout));
        self.region.check_whole()?;
        Ok(Report { problems, blocks })
    }

    /// Counts what the committed state holds.
    ///
    /// # Errors
    /// As `snapshot`; or the heap is damaged.
    pub fn stats(&self) -> Result<Stats> {
        self.check_usable()?;
        let (twin, view) = self.reading();
        let space = self.space.lock();
        // Not the reader's map: a transaction that grew the heap and was rolled back has told no reader.
        let heap = Half { region: &self.region, map: &space.layout.heap, twin };
        let scan = alloc::scan(&heap)?;
        Ok(Stats {
            pool_bytes: space.layout.pool_bytes,
            free_bytes: space.free.bytes(),
            heap_bytes: heap.heap_bytes(),
            heap_free_bytes: scan.holes.bytes() + heap.heap_bytes() - heap.used()?,
            entries: view.index.len() as u64,
            blocks: scan.data.len() as u64,
            commits: heap.commits(),
        })
    }

    /// Holds both copies against what is known of the pool.
    pub(crate) fn check_superblocks(&self, layout: &Superblock) -> Result<()> {
        let mut pages = [0; 2 * PAGE as usize];
        self.region.load(0, &mut pages);
        layout.check_copies(&pages)
    }

    fn check_state(&self) -> Result<()> {
        match State::parse(load_u64(&self.region, STATE_OFFSET))? {
            State::Idle => Ok(()),
            state => Err(Error::corrupt(format!("its state is {state:?} while no transaction runs"))),
        }
    }

    /// Reads the catalog anew, holds it against the private index, and returns the users' blocks.
    fn check_structure(&self, layout: &Superblock) -> Result<Vec<u64>> {
        let heap = Half { region: &self.region, map: &layout.heap, twin: Twin::Main };
        let scan = alloc::scan(&heap)?;
        let index = catalog::read(&heap, &scan)?;
        FreeSpace::around(extents(&index), layout)?;
        if index != self.main.read().index {
            return Err(Error::corrupt("its catalog was changed while it was open"));
        }
        Ok(scan.data.iter().map(|block| block.at()).collect())
    }

    /// Where main and back differ, as far as either is in use.
    fn differences(&self, layout: &Superblock) -> Vec<String> {
        let [main, back] = [Twin::Main, Twin::Back].map(|twin| Half { region: &self.region, map: &layout.heap, twin });
        let used = [main.used(), back.used()].into_iter().flatten().max().unwrap_or(layout.heap.bytes());
        let mut found = Vec::new();
        let (mut left, mut right) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
        for at in (0..used).step_by(COMPARED_BYTES) {
            let part = (used - at).min(COMPARED_BYTES as u64) as usize;
            main.load(at, &mut left[..part]);
            back.load(at, &mut right[..part]);
            if left[..part] == right[..part] {
                continue;
            }
            let differing = (0..part).filter(|place| left[*place] != right[*place]).count();
            if let Some(first) = (0..part).find(|place| left[*place] != right[*place]) {
                let first = at + first as u64;
                found.push(format!("its two heaps differ in {differing} bytes from {first} on"));
            }
        }
        if found.len() > MAX_DIFFERENCES {
            let more = found.len() - MAX_DIFFERENCES;
            found.truncate(MAX_DIFFERENCES);
            found.push(format!("and in {more} more places"));
        }
        found
    }
}
