//! Reading one committed state of the heap, whatever a writer does meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{ArcRwLockReadGuard, Mutex, RawRwLock, RwLock};

use plinius_medium::{MappedFile, Region, Result};

use crate::alloc::{self, Block, Kind};
use crate::catalog::Entry;
use crate::pool::{Pool, View};
use crate::turn::this_thread;
use crate::twins::{Half, Heap, Twin};

/// The threads that hold a snapshot, each as often as it does. One that commits would wait for itself: a signal handler
/// or a finalizer can come to that in the middle of a read.
#[derive(Default)]
pub struct Readers {
    /// How many there are, so that a writer need not ask as a rule.
    count: AtomicUsize,
    threads: Mutex<Vec<usize>>,
}

impl Readers {
    fn enter(&self, thread: usize) {
        self.threads.lock().push(thread);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self, thread: usize) {
        let mut threads = self.threads.lock();
        if let Some(place) = threads.iter().position(|one| *one == thread) {
            threads.swap_remove(place);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a thread holds a snapshot.
    #[inline]
    pub fn hold(&self, thread: usize) -> bool {
        // A thread's own snapshots were counted by itself: it sees them without further order.
        self.count.load(Ordering::Relaxed) > 0 && self.threads.lock().contains(&thread)
    }
}

pub(crate) type Reading = ArcRwLockReadGuard<RawRwLock, View>;

/// One committed state. A commit waits for it when it comes to copy over what is read here: drop it soon, and never
/// commit in the thread that holds it.
pub struct Snapshot<R: Region = MappedFile> {
    pool: Arc<Pool<R>>,
    twin: Twin,
    view: Reading,
    thread: usize,
}

impl<R: Region> Pool<R> {
    /// Begins to read the committed state.
    ///
    /// # Errors
    /// The medium failed; or this is a forked child, which cannot see what the parent's writer does.
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot<R>> {
        self.check_owner()?;
        self.check_intact()?;
        let (twin, view) = self.reading();
        let snapshot = Snapshot { pool: self.clone(), twin, view, thread: this_thread() };
        self.readers.enter(snapshot.thread);
        self.check_intact()?; // Again: a commit that failed has left both copies as they are.
        Ok(snapshot)
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
        let found = self.view.index.check_block(at).and_then(|()| alloc::block_at(&self.heap(), at, Kind::Data));
        self.pool.note(found)
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

impl<R: Region> Drop for Snapshot<R> {
    fn drop(&mut self) {
        self.pool.readers.leave(self.thread);
    }
}
