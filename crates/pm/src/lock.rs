//! One process writes a pool.
//!
//! A POSIX record lock is the one kind that belongs to the process: a forked DataLoader worker does not keep it alive,
//! a killed process loses it at once, and a second opener can ask who holds it. Its known trap is that closing *any*
//! descriptor of the file in the same process drops it. So pools that are open here are listed, and a pool's file is
//! never opened twice by this crate. Whoever else closes one in this process loses the lock for us: so a writer takes
//! it anew before it reserves and before it commits, and checks that nobody has committed meanwhile.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::error::{Error, Result};

/// How long a second opener waits for the first to go: a killed enclave may take a moment to unmap a large pool.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);

type FileId = (u64, u64);

/// An open pool.
struct OpenFile {
    /// The process that opened it: a forked child inherits the list, not the locks.
    owner: u32,
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
    owner: u32,
}

impl Lock {
    /// Takes the lock, waiting a few seconds for another process to let go of it.
    pub fn take(file: Arc<File>) -> Result<Self> {
        let id = file_id(&file)?;
        let owner = std::process::id();
        list(id, owner, &file)?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = acquire(&file) {
            if !matches!(error, Error::Busy { .. }) || Instant::now() >= deadline {
                open_files().remove(&id);
                return Err(error);
            }
            std::thread::sleep(RETRY);
        }
        Ok(Self { id, owner })
    }

    /// Makes sure that this process may write: it took the lock, is no forked child, and still holds the lock.
    pub fn assert_held(&self) -> Result<()> {
        self.assert_owner()?;
        let file = held_here(self.id).ok_or_else(|| Error::Misuse("the pool is closed; open it again".into()))?;
        acquire(&file)
    }

    /// Refuses a forked child, which may read the pool but not write it.
    pub fn assert_owner(&self) -> Result<()> {
        if std::process::id() == self.owner {
            return Ok(());
        }
        Err(Error::Misuse(format!(
            "a forked child of process {} cannot write its pool; write in the parent",
            self.owner
        )))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if std::process::id() == self.owner {
            // Under the mutex to the end, so that no thread can take the lock anew before this lets go of it.
            let mut open = open_files();
            if let Some(closing) = open.remove(&self.id) {
                // The descriptor may outlive this lock (an inherited one is open in the host too).
                let _ = fcntl_lock(&*closing.file, FlockOperation::Unlock);
            }
        }
    }
}

/// The file of a pool that this process has open, so that nobody opens (and so closes) it a second time.
pub fn open_here(path: &Path) -> Option<Arc<File>> {
    let facts = std::fs::metadata(path).ok()?;
    held_here((facts.dev(), facts.ino()))
}

fn held_here(id: FileId) -> Option<Arc<File>> {
    open_files().get(&id).filter(|open| open.owner == std::process::id()).map(|open| open.file.clone())
}

/// Lists a file as open in this process, unless it is already.
fn list(id: FileId, owner: u32, file: &Arc<File>) -> Result<()> {
    let mut open = open_files();
    if let Some(already) = open.get_mut(&id).filter(|already| already.owner == owner) {
        already.parked.push(file.clone());
        return Err(Error::Busy { holder: "this process already".into() });
    }
    open.insert(id, OpenFile { owner, file: file.clone(), parked: Vec::new() });
    Ok(())
}

fn open_files() -> MutexGuard<'static, HashMap<FileId, OpenFile>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_id(file: &File) -> Result<FileId> {
    let facts = file.metadata().map_err(|source| Error::Io { action: "asking for the pool's identity", source })?;
    Ok((facts.dev(), facts.ino()))
}

fn acquire(file: &File) -> Result<()> {
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::Busy { holder: holder(file) }),
        Err(errno) => Err(Error::io("locking the pool")(errno)),
    }
}

fn holder(file: &File) -> String {
    match fcntl_getlk(file, &Flock::from(FlockType::WriteLock)) {
        Ok(Some(lock)) => match lock.pid {
            Some(pid) => format!("process {}", pid.as_raw_nonzero()),
            None => "a process of another container".into(),
        },
        _ => "another process".into(),
    }
}
