//! One process writes a pool.
//!
//! A POSIX record lock is the one kind that belongs to the process: a forked DataLoader worker does not keep it alive,
//! a killed process loses it at once, and a second opener can ask who holds it. Its known trap is that closing *any*
//! descriptor of the file in the same process drops it. So pools that are open here are listed, and a pool's file is
//! never opened twice by this crate; a writer also takes the lock anew before each mirror's flip.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::error::{Error, Result};

/// How long a second opener waits for the first to go: a killed enclave may take a moment to unmap a large pool.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);

type FileId = (u64, u64);
/// Each open file, and the process that opened it: a forked child inherits the list, not the locks.
type OpenFiles = HashMap<FileId, (u32, Arc<File>)>;

/// The pools that this process has open.
static OPEN: LazyLock<Mutex<OpenFiles>> = LazyLock::new(Mutex::default);

/// The exclusive lock of a pool; it ends when this is dropped or the process dies.
#[derive(Debug)]
pub struct Lock {
    file: Arc<File>,
    id: FileId,
    owner: u32,
}

impl Lock {
    /// Takes the lock, waiting a few seconds for another process to let go of it.
    pub fn take(file: Arc<File>) -> Result<Self> {
        let id = file_id(&file)?;
        let owner = std::process::id();
        if held_here(id).is_some() {
            return Err(Error::Busy { holder: "this process already".into() });
        }
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = acquire(&file) {
            if !matches!(error, Error::Busy { .. }) || Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(RETRY);
        }
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (owner, file.clone()));
        Ok(Self { file, id, owner })
    }

    /// Makes sure that this process may write: it took the lock, is no forked child, and still holds the lock.
    pub fn assert_held(&self) -> Result<()> {
        self.assert_owner()?;
        acquire(&self.file)
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
            OPEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
            // The descriptor may outlive this lock (an inherited one is open in the host too): let go of it now.
            let _ = fcntl_lock(&*self.file, FlockOperation::Unlock);
        }
    }
}

/// The file of a pool that this process has open, so that nobody opens (and so closes) it a second time.
pub fn open_here(path: &Path) -> Option<Arc<File>> {
    let facts = std::fs::metadata(path).ok()?;
    held_here((facts.dev(), facts.ino()))
}

fn held_here(id: FileId) -> Option<Arc<File>> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.get(&id).filter(|(owner, _)| *owner == std::process::id()).map(|(_, file)| file.clone())
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
