//! The pool: opening, creating, recovering, growing, and the two ways to write it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::catalog::{self, Entry};
use crate::creation::{create, is_new, superblock};
use crate::error::{Error, Result};
use crate::extent::{EXTENT_ALIGN, Extent, FreeSpace};
use crate::file::MappedFile;
use crate::lock::{self, Lock};
use crate::medium::Medium;
use crate::persist::Flush;
use crate::region::Region;
use crate::romulus::{self, Heap, MainHeap, Transaction};
use crate::superblock::{PAGE, Superblock};

/// The pool grows by multiples of this.
const GROWTH_BYTES: u64 = 64 << 10;

/// How a pool is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The pool never grows beyond this; `None`: as far as its medium goes.
    pub max_bytes: Option<u64>,
    /// Length of each heap of a pool that is created now.
    pub heap_bytes: u64,
    /// A fresh random id, for a pool that is created now.
    pub pool_id: [u8; 16],
}

/// An open pool. It is the only writer of its file.
pub struct Pool<R: Region = MappedFile> {
    region: R,
    lock: Option<Lock>,
    max_bytes: u64,
    shared: Mutex<Shared>,
}

struct Shared {
    layout: Superblock,
    free: FreeSpace,
    /// The extents of each entry. The catalog says the same, but anybody may change it there while the pool is open.
    owned: HashMap<String, Vec<Extent>>,
    /// As many transactions as this process knows of.
    commits: u64,
    failed: bool,
}

impl Pool {
    /// Opens the pool at a path, or creates it where there is no file.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        if lock::open_here(path).is_some() {
            return Err(Error::Busy { holder: "this process already".into() });
        }
        if path.exists() && !path.is_file() {
            return Err(Error::NotAPool("it is not a regular file"));
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|source| Error::Io { action: "opening the pool", source })?;
        let pool = Self::from_file(file, options)?;
        sync_folder(path)?;
        Ok(pool)
    }

    /// Opens the pool behind a descriptor that is open for reading and writing; an empty file becomes a pool.
    pub fn from_file(file: File, options: Options) -> Result<Self> {
        let file = Arc::new(file);
        let facts = file.metadata().map_err(|source| Error::Io { action: "looking at the pool", source })?;
        if !facts.is_file() {
            return Err(Error::NotAPool("it is not a regular file"));
        }
        if (1..PAGE).contains(&facts.len()) {
            return Err(Error::NotAPool("it is too short"));
        }
        let lock = Lock::take(file.clone())?;
        Self::with_region(MappedFile::map(file)?, Some(lock), options)
    }

    /// What lies under the pool.
    pub fn medium(&self) -> Medium {
        self.region.medium()
    }

    /// The write-back in use.
    pub fn flush(&self) -> Flush {
        self.region.flush()
    }
}

impl<R: Region> Pool<R> {
    /// Opens or creates a pool over a region that nobody else can reach, and that so needs no lock: a test's.
    pub fn over(region: R, options: Options) -> Result<Self> {
        Self::with_region(region, None, options)
    }

    fn with_region(region: R, lock: Option<Lock>, options: Options) -> Result<Self> {
        if is_new(&region) {
            create(&region, options)?;
        }
        let layout = superblock(&region)?;
        layout.repair(&region)?;
        romulus::recover(&region, &layout)?;
        let heap = MainHeap::new(&region, &layout);
        let entries = catalog::read(&heap)?;
        let free = FreeSpace::around(checked_extents(&entries, &layout)?, &layout)?;
        let owned = entries.into_iter().map(|entry| (entry.name, entry.extents)).collect();
        let commits = heap.commits();
        let max_bytes = options.max_bytes.unwrap_or(u64::MAX);
        Ok(Self { region, lock, max_bytes, shared: Mutex::new(Shared { layout, free, owned, commits, failed: false }) })
    }

    /// The pool's random id.
    pub fn id(&self) -> [u8; 16] {
        self.shared().layout.pool_id
    }

    /// Length of the file, and how much of it is free for extents.
    pub fn bytes(&self) -> (u64, u64) {
        let shared = self.shared();
        (shared.layout.pool_bytes, shared.free.bytes())
    }

    /// A private copy of the catalog.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.region.check_whole()?;
        let shared = self.shared();
        let entries = catalog::read(&MainHeap::new(&self.region, &shared.layout))?;
        checked_extents(&entries, &shared.layout)?;
        Ok(entries)
    }

    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>> {
        Ok(self.entries()?.into_iter().find(|entry| entry.name == name))
    }

    /// Copies bytes of an extent into private memory, starting `at` bytes into it.
    ///
    /// # Errors
    /// The range is not inside the pool: `Error::Corrupt`, since extents come from the pool.
    pub fn read(&self, extent: Extent, at: u64, out: &mut [u8]) -> Result<()> {
        let end = at.checked_add(out.len() as u64).filter(|end| *end <= extent.bytes);
        let fits = extent.offset.checked_add(extent.bytes).is_some_and(|end| end <= self.region.len());
        if end.is_none() || !fits {
            return Err(Error::corrupt(format!("{} bytes at {at} are not inside {extent:?}", out.len())));
        }
        self.region.check_whole()?;
        self.region.load(extent.offset + at, out);
        Ok(())
    }

    /// Takes one free extent for each size, which is not zero, growing the pool when the free space does not do.
    pub fn reserve(self: &Arc<Self>, sizes: &[u64]) -> Result<Reserved<R>> {
        if sizes.contains(&0) {
            return Err(Error::Misuse("an extent has at least one byte".into()));
        }
        let mut shared = self.usable()?;
        let mut reserved = Reserved { pool: self.clone(), extents: vec![None; sizes.len()] };
        let mut missing = 0_u64;
        for (slot, &bytes) in reserved.extents.iter_mut().zip(sizes) {
            *slot = shared.free.take(bytes);
            if slot.is_none() {
                let space = bytes.checked_next_multiple_of(EXTENT_ALIGN).unwrap_or(u64::MAX);
                missing = missing.saturating_add(space);
            }
        }
        if missing > 0 {
            let grown = self.grow(&mut shared, missing);
            if let Err(error) = grown {
                drop(shared);
                return Err(error);
            }
            for (slot, &bytes) in reserved.extents.iter_mut().zip(sizes).filter(|(slot, _)| slot.is_none()) {
                *slot = shared.free.take(bytes);
            }
        }
        drop(shared);
        Ok(reserved)
    }

    /// Puts `entry` into the catalog in one transaction, in the place of the one of its name. Its extents are those of
    /// `reserved` and any that it had before; what it had before and has no more is free afterwards.
    pub fn commit(&self, entry: &Entry, reserved: Reserved<R>) -> Result<()> {
        let mut shared = self.usable()?;
        let flipped = self.flip(&mut shared, entry, &reserved);
        match flipped {
            Ok(()) => reserved.keep(),
            // `reserved` gives its extents back, for which it needs the mutex.
            Err(_) => drop(shared),
        }
        flipped
    }

    fn flip(&self, shared: &mut Shared, entry: &Entry, reserved: &Reserved<R>) -> Result<()> {
        let old = shared.owned.get(&entry.name).cloned().unwrap_or_default();
        check_owned(entry, &old, reserved)?;
        let written = self.write(shared, entry, &old);
        // After an I/O error nobody knows what is durable, and asking once more may be answered with a wrong yes.
        written.inspect_err(|error| shared.failed |= matches!(error, Error::Io { .. }))?;
        shared.commits = shared.commits.wrapping_add(1);
        let kept: HashSet<&Extent> = entry.extents.iter().collect();
        for extent in old.iter().filter(|extent| !kept.contains(extent)) {
            shared.free.give(*extent);
        }
        shared.owned.insert(entry.name.clone(), entry.extents.clone());
        Ok(())
    }

    fn write(&self, shared: &Shared, entry: &Entry, old: &[Extent]) -> Result<()> {
        // ORDER: the extents that the workers streamed are durable before the catalog names them.
        self.region.pfence()?;
        let mut tx = Transaction::begin(&self.region, &shared.layout);
        let replaced = catalog::put(&mut tx, entry)?;
        if replaced.map_or(Vec::new(), |replaced| replaced.extents) != old {
            return Err(Error::corrupt("its catalog was changed while it was open"));
        }
        tx.commit()
    }

    fn grow(&self, shared: &mut Shared, missing: u64) -> Result<()> {
        let old = shared.layout.pool_bytes;
        let new = old.saturating_add(missing).checked_next_multiple_of(GROWTH_BYTES).unwrap_or(u64::MAX);
        if new > self.max_bytes {
            let advice = "open it with a larger max_bytes";
            let free_bytes = self.max_bytes.saturating_sub(old) + shared.free.bytes();
            return Err(Error::Full { what: "the pool", needed_bytes: missing, free_bytes, advice });
        }
        if new > self.region.len() {
            self.region.grow(new)?;
        }
        let layout = Superblock { pool_bytes: new, sequence: shared.layout.sequence + 1, ..shared.layout.clone() };
        layout.store(&self.region).inspect_err(|_| shared.failed = true)?;
        shared.layout = layout;
        shared.free.add(old, new - old);
        Ok(())
    }

    /// The pool for writing.
    fn usable(&self) -> Result<MutexGuard<'_, Shared>> {
        self.lock.as_ref().map_or(Ok(()), Lock::assert_held)?;
        self.region.check_whole()?;
        let shared = self.shared();
        if shared.failed {
            let advice = "the medium failed while writing the pool; close it and open it again".to_owned();
            return Err(Error::Misuse(advice));
        }
        if MainHeap::new(&self.region, &shared.layout).commits() != shared.commits {
            let advice = "somebody else wrote the pool while it was open here; close it and open it again".to_owned();
            return Err(Error::Misuse(advice));
        }
        Ok(shared)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Extents that were taken and not committed yet. They are written through this and nothing else, so that no byte of a
/// committed extent can be touched; dropping it gives them back.
pub struct Reserved<R: Region = MappedFile> {
    pool: Arc<Pool<R>>,
    extents: Vec<Option<Extent>>,
}

impl<R: Region> Reserved<R> {
    /// The extents, in the order of the sizes that were asked for.
    pub fn extents(&self) -> Vec<Extent> {
        self.extents.iter().copied().flatten().collect()
    }

    /// Streams bytes into one of the extents. The writing thread calls `fence` before it reports that it is done.
    pub fn write(&self, index: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let extent = self.extents.get(index).copied().flatten();
        let fits = |extent: &Extent| at.checked_add(bytes.len() as u64).is_some_and(|end| end <= extent.bytes);
        let Some(extent) = extent.filter(fits) else {
            return Err(Error::Misuse(format!("{} bytes at {at} do not fit the reserved extent {index}", bytes.len())));
        };
        self.pool.region.stream(extent.offset + at, bytes);
        Ok(())
    }

    /// Orders this thread's writes before whatever it reports afterwards.
    pub fn fence(&self) {
        self.pool.region.thread_fence();
    }

    /// Joins two reservations, to be committed together.
    #[must_use]
    pub fn join(mut self, mut other: Self) -> Self {
        self.extents.append(&mut other.extents);
        self
    }

    fn keep(mut self) {
        self.extents.clear();
    }
}

impl<R: Region> Drop for Reserved<R> {
    fn drop(&mut self) {
        if self.extents.is_empty() {
            return;
        }
        let mut shared = self.pool.shared();
        for extent in self.extents.drain(..).flatten() {
            shared.free.give(extent);
        }
    }
}

/// Checks all extents of a catalog against the geometry of the pool.
pub fn checked_extents(entries: &[Entry], layout: &Superblock) -> Result<Vec<Extent>> {
    entries.iter().flat_map(|entry| &entry.extents).map(|extent| extent.check(layout)).collect()
}

/// An entry owns all that was reserved for it, and what it owned before if it likes, each once and nothing else.
fn check_owned<R: Region>(entry: &Entry, old: &[Extent], reserved: &Reserved<R>) -> Result<()> {
    let fresh = reserved.extents();
    let mut allowed: HashSet<&Extent> = old.iter().chain(&fresh).collect();
    if let Some(foreign) = entry.extents.iter().find(|extent| !allowed.remove(extent)) {
        return Err(Error::Misuse(format!("{foreign:?} does not belong to the entry {:?}, or not twice", entry.name)));
    }
    match fresh.iter().find(|extent| allowed.contains(extent)) {
        None => Ok(()),
        Some(lost) => Err(Error::Misuse(format!("{lost:?} was reserved for {:?}, which does not own it", entry.name))),
    }
}

/// Makes a new file's name durable: that of the file itself, not of a link to it.
fn sync_folder(path: &Path) -> Result<()> {
    let synced = path.canonicalize().and_then(|path| {
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    });
    synced.map_err(|source| Error::Io { action: "writing the pool's folder to its medium", source })
}
