//! The pool: opening, creating, recovering, growing, and bulk space.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use parking_lot::{Mutex, RwLock};

use plinius_medium::{Durability, Error, Extent, Flush, MappedFile, Medium, PAGE, Region, Result};

use crate::alloc;
use crate::catalog::{self, Entry, Index};
use crate::creation::{create, is_new, superblock};
use crate::extent::FreeSpace;
use crate::holes::Holes;
use crate::lock::{self, Lock};
use crate::opening::{discard_unfinished, locked, open_or_create, pool_bytes, sync_folder};
use crate::romulus::{self, Log};
use crate::snapshot::Readers;
use crate::superblock::{MAX_SEGMENTS, SESSION_OFFSET, Superblock};
use crate::twins::{Half, Heap, HeapMap, Segment, Twin};

/// The pool grows by multiples of this.
const GROWTH_BYTES: u64 = 64 << 10;

/// How a pool is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The pool never grows beyond this; `None`: as far as its medium goes.
    pub max_bytes: Option<u64>,
    /// First length of the heap of a pool that is created now.
    pub heap_bytes: u64,
    /// A fresh random id, for a pool that is created now.
    pub pool_id: [u8; 16],
    /// The write-back to use; `None`: what suits the medium.
    pub flush: Option<Flush>,
    /// A pool whose commits survive less is not opened.
    pub require: Option<Durability>,
}

/// An open pool. It is the only writer of its file.
///
/// One transaction runs at a time, behind `writer`. Readers never wait for it: while it changes main they read back, and
/// while it copies to back they read main. `main` and `back` hold what is known of the two copies, each behind the lock of
/// its copy; the writer holds one of these locks at a time.
pub struct Pool<R: Region = MappedFile> {
    pub(crate) region: R,
    pub(crate) lock: Option<Lock>,
    max_bytes: u64,
    pub(crate) writer: Arc<Mutex<Writer>>,
    /// The thread that runs the transaction, as `this_thread` names it; 0: none.
    pub(crate) writing_thread: AtomicUsize,
    pub(crate) main: Arc<RwLock<View>>,
    pub(crate) back: Arc<RwLock<View>>,
    pub(crate) space: Mutex<Space>,
    /// After an I/O error nobody knows what is durable, and asking once more may be answered with a wrong yes.
    pub(crate) failed: AtomicBool,
    pub(crate) readers: Readers,
}

/// What is known of one copy of the heap.
#[derive(Clone)]
pub struct View {
    /// Where it lies.
    pub(crate) heap: Arc<HeapMap>,
    /// Its catalog.
    pub(crate) index: Index,
}

/// What belongs to the one who writes.
pub struct Writer {
    /// Where the heap lies, with all that it has grown by.
    pub(crate) heap: Arc<HeapMap>,
    pub(crate) log: Log,
    /// The free blocks of the heap; `None` after a transaction that changed them was rolled back: found anew when needed.
    pub(crate) holes: Option<Holes>,
    /// As many transactions as this process knows of.
    pub(crate) commits: u64,
}

/// The file's geometry and its free extents. Held for moments only, also inside a transaction.
pub struct Space {
    pub(crate) layout: Superblock,
    pub(crate) free: FreeSpace,
}

impl Pool {
    /// Opens the pool at a path, or creates it where there is no file.
    pub fn open(path: &Path, options: Options) -> Result<Arc<Self>> {
        if lock::is_open_here(path) {
            return Err(Error::Busy { holder: "this process already".into() });
        }
        if path.exists() && !path.is_file() {
            return Err(Error::NotAPool("it is not a regular file"));
        }
        let (file, is_new) = open_or_create(path).map_err(|source| Error::Io { action: "opening the pool", source })?;
        let file = Arc::new(file);
        let opened = Self::from_shared(file.clone(), options).and_then(|pool| sync_folder(path).map(|()| pool));
        if is_new && opened.is_err() {
            discard_unfinished(&file, path);
        }
        opened
    }

    /// Opens the pool behind a descriptor that is open for reading and writing; an empty file becomes a pool.
    pub fn from_file(file: File, options: Options) -> Result<Arc<Self>> {
        Self::from_shared(Arc::new(file), options)
    }

    fn from_shared(file: Arc<File>, options: Options) -> Result<Arc<Self>> {
        let lock = locked(&file)?;
        let mut mapped = MappedFile::map(Box::new(file.clone()), options.flush, options.require)?;
        // What is no pool stays as it is.
        if let Some(bytes) = pool_bytes(&file) {
            mapped.fill_holes(bytes)?;
        }
        Self::with_region(mapped, Some(lock), options)
    }

    /// Its file, for whoever maps it a second time in this process, which must not open it (`lock`).
    pub fn file(&self) -> BorrowedFd<'_> {
        self.region.as_fd()
    }

    /// What lies under the pool.
    pub fn medium(&self) -> Medium {
        self.region.medium()
    }

    /// The write-back in use.
    pub fn flush(&self) -> Flush {
        self.region.flush()
    }

    /// What a commit survives: it follows from both.
    pub fn durability(&self) -> Durability {
        self.region.durability()
    }
}

impl<R: Region> Pool<R> {
    /// Opens or creates a pool over a region that nobody else can reach, and that so needs no lock: a test's.
    pub fn over(region: R, options: Options) -> Result<Arc<Self>> {
        Self::with_region(region, None, options)
    }

    fn with_region(region: R, lock: Option<Lock>, options: Options) -> Result<Arc<Self>> {
        if is_new(&region) {
            create(&region, options)?;
        }
        let layout = superblock(&region)?;
        layout.repair(&region)?;
        romulus::recover(&region, &layout.heap)?;
        let heap = Half { region: &region, map: &layout.heap, twin: Twin::Main };
        let scan = alloc::scan(&heap)?;
        let index = catalog::read(&heap, &scan)?;
        let free = FreeSpace::around(extents(&index), &layout)?;
        let map = layout.heap.clone();
        let commits = heap.commits();
        let mut writer = Writer { heap: map.clone(), log: Log::default(), holes: Some(scan.holes), commits };
        writer.log.lines.cover(map.bytes());
        if let Some(lock) = &lock {
            region.store(SESSION_OFFSET, &lock.session().to_le_bytes());
        }
        let view = View { heap: map, index };
        region.check_whole()?;
        Ok(Arc::new(Self {
            region,
            lock,
            max_bytes: options.max_bytes.unwrap_or(u64::MAX),
            writer: Arc::new(Mutex::new(writer)),
            writing_thread: AtomicUsize::new(0),
            main: Arc::new(RwLock::new(view.clone())),
            back: Arc::new(RwLock::new(view)),
            space: Mutex::new(Space { layout, free }),
            failed: AtomicBool::new(false),
            readers: Readers::default(),
        }))
    }

    /// The pool's random id.
    pub fn id(&self) -> [u8; 16] {
        self.space.lock().layout.pool_id
    }

    /// Length of the file, and how much of it is free for extents.
    pub fn bytes(&self) -> (u64, u64) {
        let space = self.space.lock();
        (space.layout.pool_bytes, space.free.bytes())
    }

    /// All entries of the catalog, by name.
    pub fn entries(&self) -> Vec<Entry> {
        let (_, view) = self.reading();
        let mut entries: Vec<Entry> = view.index.iter().map(|located| (*located.entry).clone()).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.reading().1.index.get(name).map(|located| located.entry.clone())
    }

    /// For whoever stores bulk bytes and reads them without the pool.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Copies bytes of an extent into private memory, starting `at` bytes into it.
    ///
    /// # Errors
    /// The range is not inside the pool: `Error::Corrupt`, since extents come from the pool.
    pub fn read(&self, extent: Extent, at: u64, out: &mut [u8]) -> Result<()> {
        extent.load(&self.region, at, out)
    }

    /// Lengthens the pool so that `missing` bytes more are free at its end.
    pub(crate) fn grow(&self, space: &mut Space, missing: u64) -> Result<()> {
        let old = space.layout.pool_bytes;
        let new = old.saturating_add(missing).checked_next_multiple_of(GROWTH_BYTES).unwrap_or(u64::MAX);
        // The last growth may be shorter, so that all of `max_bytes` can be used.
        let new = if new > self.max_bytes { old.saturating_add(missing) } else { new };
        if new > self.max_bytes {
            let advice = "open it with a larger max_bytes";
            let free_bytes = self.max_bytes.saturating_sub(old) + space.free.bytes();
            return Err(Error::Full { what: "the pool", needed_bytes: missing, free_bytes, advice });
        }
        if new > self.region.len() {
            self.note(self.region.grow(new))?;
        }
        let layout = space.layout.with_length(new);
        self.adopt(space, layout)?;
        space.free.add(old, new - old);
        Ok(())
    }

    /// Gives the heap at least `missing` bytes more: as many again as it has, where there is room for that.
    pub(crate) fn grow_heap(&self, missing: u64) -> Result<Arc<HeapMap>> {
        let mut space = self.space.lock();
        let full = |needed_bytes, advice| Error::Full { what: "the pool's heap", needed_bytes, free_bytes: 0, advice };
        if space.layout.heap.segments().len() == MAX_SEGMENTS {
            return Err(full(missing, "create a pool with a larger heap_bytes, and copy what it holds"));
        }
        let least = missing.checked_next_multiple_of(PAGE).filter(|least| *least < u64::MAX / 2);
        let least = least.ok_or_else(|| full(missing, "no pool is so large"))?;
        let ample = least.max(space.layout.heap.bytes());
        let mut taken = [None];
        match self.take(&mut space, &[2 * ample], &mut taken) {
            Err(Error::Full { .. }) => self.take(&mut space, &[2 * least], &mut taken)?,
            other => other?,
        }
        let [taken] = taken;
        let extent = taken.ok_or_else(|| full(missing, "open the pool with a larger max_bytes"))?;
        let segment = Segment { offset: extent.offset, bytes: extent.bytes / 2 };
        let layout = space.layout.with_segment(segment);
        self.adopt(&mut space, layout)?;
        Ok(space.layout.heap.clone())
    }

    fn adopt(&self, space: &mut Space, layout: Superblock) -> Result<()> {
        // Another pool that somebody put under us keeps its superblocks.
        self.note(self.check_superblocks(&space.layout))?;
        if layout.sequence == u64::MAX {
            let (what, advice) = ("the count of the pool's changes", "copy what it holds to a new pool");
            return Err(Error::Full { what, needed_bytes: 1, free_bytes: 0, advice });
        }
        self.note(layout.store(&self.region))?;
        space.layout = layout;
        Ok(())
    }
}

impl<R: Region> Drop for Pool<R> {
    fn drop(&mut self) {
        // A pool that is closed is nobody's. If this is not the one that has it open, it stays as it is.
        if self.lock.as_ref().is_some_and(|lock| lock.assert_owner().is_ok()) && self.check_session().is_ok() {
            self.region.store(SESSION_OFFSET, &[0; 8]);
        }
    }
}

/// The extents of all entries.
pub fn extents(index: &Index) -> impl Iterator<Item = Extent> {
    index.iter().flat_map(|located| located.entry.extents.iter().copied())
}
