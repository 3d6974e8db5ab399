//! One process has a pool: it says what lies where, and commits.
//!
//! A POSIX record lock is the one kind that belongs to the process: a forked DataLoader worker does not keep it alive,
//! a killed process loses it at once, and a second opener can ask who holds it. Its known trap is that closing *any*
//! descriptor of the file in the same process drops it. So pools that are open here are listed, and a pool's file is
//! never opened twice by this crate. Whoever else closes one in this process loses the lock for us: so a writer takes
//! it anew when it begins, and finds at its end, too, that nobody has opened the pool meanwhile (`Lock::session`).
//!
//! Beginning is the matter of a million times a second. So the lock is taken anew only when that was not done in the last
//! ten milliseconds, and a forked child is known without a system call.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use plinius_medium::{Claim, Error, Result};

use crate::fork::generation;

/// How long a second opener waits for the first to go: a killed enclave may take a moment to unmap a large pool.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);
/// How long a lock that was held is believed to be held.
const BELIEVED_MS: u64 = 10;

type FileId = (u64, u64);

/// An open pool.
struct OpenFile {
    /// The process that opened it, as `generation` numbers it: a forked child inherits the list, not the locks.
    owner: u64,
    file: Arc<File>,
    /// Further descriptors of the same file, which cannot be closed before the lock goes.
    parked: Vec<Arc<File>>,
}

/// The pools that this process has open.
static OPEN: LazyLock<Mutex<HashMap<FileId, OpenFile>>> = LazyLock::new(Mutex::default);

/// The exclusive lock of a pool; it ends when this is dropped or the process dies.
#[derive(Debug)]
pub struct Lock {
    id: FileId,
    owner: u64,
    owner_pid: u32,
    session: u64,
    /// When it was last taken.
    taken_ms: AtomicU64,
}

impl Lock {
    /// Takes the lock, waiting a few seconds for another process to let go of it.
    pub fn take(file: Arc<File>) -> Result<Self> {
        let facts = metadata(&file)?;
        let (id, owner) = ((facts.dev(), facts.ino()), generation());
        list(id, owner, &file)?;
        let deadline = Instant::now() + PATIENCE;
        // Whoever stores where somebody else had told it to, and has outlived that one, must be gone first.
        while let Err(error) = Claim::Pool.take(&*file).and_then(|()| Claim::Stores.refuse_holder(&*file)) {
            if !matches!(error, Error::Busy { .. }) || Instant::now() >= deadline {
                open_files().remove(&id);
                return Err(error);
            }
            std::thread::sleep(RETRY);
        }
        let (owner_pid, taken_ms) = (std::process::id(), AtomicU64::new(coarse_ms()));
        let session = RandomState::new().hash_one((owner_pid, coarse_ms()));
        Ok(Self { id, owner, owner_pid, session, taken_ms })
    }

    /// Makes sure that this process may write: it took the lock, is no forked child, and still held the lock, on a file of
    /// at least `bytes`, at most ten milliseconds ago.
    #[inline]
    pub fn assert_held(&self, bytes: u64) -> Result<()> {
        self.assert_owner()?;
        let now = coarse_ms();
        if now < self.taken_ms.load(Ordering::Relaxed) + BELIEVED_MS {
            return Ok(());
        }
        self.take_anew(now, bytes)
    }

    /// A number that differs each time that a pool is opened.
    #[inline]
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Refuses a forked child, which may read the pool but not write it.
    #[inline]
    pub fn assert_owner(&self) -> Result<()> {
        if self.is_owner() { Ok(()) } else { Err(self.forked()) }
    }

    fn is_owner(&self) -> bool {
        generation() == self.owner
    }

    #[cold]
    fn forked(&self) -> Error {
        let pid = self.owner_pid;
        Error::Misuse(format!("a forked child of process {pid} cannot use its pool; use it in the parent"))
    }

    #[cold]
    fn take_anew(&self, now: u64, bytes: u64) -> Result<()> {
        let file = held_here(self.id).ok_or_else(|| Error::Misuse("the pool is closed; open it again".into()))?;
        Claim::Pool.take(&*file)?;
        let file_bytes = metadata(&file)?.len();
        if file_bytes < bytes {
            return Err(Error::cut(file_bytes));
        }
        self.taken_ms.store(now, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_owner() {
            // Under the mutex to the end, so that no thread can take the lock anew before this lets go of it.
            let mut open = open_files();
            if let Some(closing) = open.remove(&self.id) {
                // The descriptor may outlive this lock (an inherited one is open in the host too).
                Claim::Pool.release(&*closing.file);
            }
        }
    }
}

/// A file that is looked at without the lock. It may be that of a pool that is open here, or is opened here meanwhile:
/// then its descriptor is not closed before the pool is.
pub struct Visit(Option<Arc<File>>);

impl Visit {
    /// The file at a path, opened by `open` unless a pool of this process has it open.
    pub fn new(path: &Path, open: impl FnOnce(&Path) -> Result<File>) -> Result<Self> {
        let file = match open_here(path) {
            Some(file) => file,
            None => Arc::new(open(path)?),
        };
        Ok(Self(Some(file)))
    }
}

impl Deref for Visit {
    type Target = File;

    fn deref(&self) -> &File {
        self.0.as_ref().expect("it is taken by drop alone")
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        // Under the mutex to the end, so that no pool can be opened between the look and the closing.
        let mut open = open_files();
        let id = file.metadata().map(|facts| (facts.dev(), facts.ino()));
        if let Some(pool) = id.ok().and_then(|id| open.get_mut(&id))
            && !Arc::ptr_eq(&pool.file, &file)
        {
            pool.parked.push(file);
        }
    }
}

/// Whether this process has the pool at a path open.
pub fn is_open_here(path: &Path) -> bool {
    open_here(path).is_some()
}

/// The file of a pool that this process has open, so that nobody opens (and so closes) it a second time.
fn open_here(path: &Path) -> Option<Arc<File>> {
    let facts = std::fs::metadata(path).ok()?;
    held_here((facts.dev(), facts.ino()))
}

fn held_here(id: FileId) -> Option<Arc<File>> {
    open_files().get(&id).filter(|open| open.owner == generation()).map(|open| open.file.clone())
}

/// Lists a file as open in this process, unless it is already.
fn list(id: FileId, owner: u64, file: &Arc<File>) -> Result<()> {
    let mut open = open_files();
    if let Some(already) = open.get_mut(&id).filter(|already| already.owner == owner) {
        already.parked.push(file.clone());
        return Err(Error::Busy { holder: "this process already".into() });
    }
    // What was inherited from a parent that has the pool open too must not be closed either.
    let parked = open.remove(&id).map_or(Vec::new(), |inherited| [vec![inherited.file], inherited.parked].concat());
    open.insert(id, OpenFile { owner, file: file.clone(), parked });
    Ok(())
}

fn open_files() -> MutexGuard<'static, HashMap<FileId, OpenFile>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock of a few milliseconds that is read without a system call.
fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

fn metadata(file: &File) -> Result<Metadata> {
    file.metadata().map_err(|source| Error::Io { action: "looking at the pool", source })
}
