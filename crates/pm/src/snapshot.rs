//! Reading one committed state of the heap, whatever a writer does meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{ArcRwLockReadGuard, RawRwLock, RwLock};

use crate::alloc::{self, Block, Kind};
use crate::catalog::Entry;
use crate::error::{Error, Result};
use crate::file::MappedFile;
use crate::pool::{Pool, View};
use crate::region::Region;
use crate::twins::{Half, Heap, Twin};

pub(crate) type Reading = ArcRwLockReadGuard<RawRwLock, View>;

/// One committed state. A commit waits for it when it comes to copy over what is read here: drop it soon, and never
/// commit in the thread that holds it.
pub struct Snapshot<R: Region = MappedFile> {
    pool: Arc<Pool<R>>,
    twin: Twin,
    view: Reading,
}

impl<R: Region> Pool<R> {
    /// Begins to read the committed state.
    ///
    /// # Errors
    /// The medium failed; or this is a forked child, which cannot see what the parent's writer does.
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot<R>> {
        self.check_owner()?;
        self.region.check_whole()?;
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Misuse("the medium failed while writing the pool; close it and open it again".into()));
        }
        let (twin, view) = self.reading();
        Ok(Snapshot { pool: self.clone(), twin, view })
    }

    /// The copy that no writer is at: a writer holds one of the two locks at a time.
    pub(crate) fn reading(&self) -> (Twin, Reading) {
        loop {
            if let Some(view) = RwLock::try_read_arc(&self.back) {
                return (Twin::Back, view);
            }
            if let Some(view) = RwLock::try_read_arc(&self.main) {
                return (Twin::Main, view);
            }
            std::thread::yield_now();
        }
    }
}

impl<R: Region> Snapshot<R> {
    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.view.index.get(name).map(|located| located.entry.clone())
    }

    /// All names, in no particular order.
    pub fn names(&self) -> Vec<String> {
        self.view.index.iter().map(|located| located.entry.name.clone()).collect()
    }

    /// The block of a user whose payload begins at `at`.
    ///
    /// # Errors
    /// There is no such block (`Error::Corrupt`).
    pub fn block(&self, at: u64) -> Result<Block> {
        alloc::block_at(&self.heap(), at, Kind::Data)
    }

    /// Copies bytes of a block, starting `at` bytes into it.
    ///
    /// # Errors
    /// The range is not inside the block (`Error::Misuse`); what was read is junk, since the file was cut or its medium
    /// failed.
    pub fn load(&self, block: Block, at: u64, out: &mut [u8]) -> Result<()> {
        let place = block.place(at, out.len(), self.view.heap.bytes())?;
        self.heap().load(place, out);
        self.pool.region.check_whole()
    }

    fn heap(&self) -> Half<'_, R> {
        Half { region: &self.pool.region, map: &self.view.heap, twin: self.twin }
    }
}
