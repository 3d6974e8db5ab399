//! Files that become pools: opening or making them, and removing what came to nothing.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use plinius_medium::{Error, PAGE, Result};

use crate::creation::is_unfinished;
use crate::lock::Lock;
use crate::superblock::Superblock;

/// Opens a file, and tells whether it was made just now.
pub fn open_or_create(path: &Path) -> std::io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // Also where a link leads to no file yet.
            Ok((options.create(true).truncate(false).open(path)?, false))
        }
        made => Ok((made?, true)),
    }
}

/// Takes the lock of a file that can be a pool.
pub fn locked(file: &Arc<File>) -> Result<Lock> {
    let facts = file.metadata().map_err(|source| Error::Io { action: "looking at the pool", source })?;
    if !facts.is_file() {
        return Err(Error::NotAPool("it is not a regular file"));
    }
    if (1..PAGE).contains(&facts.len()) {
        return Err(Error::NotAPool("it is too short"));
    }
    Lock::take(file.clone())
}

/// How long the superblock in a file says that the pool is; `None`: it is no pool.
pub fn pool_bytes(file: &File) -> Option<u64> {
    let mut pages = [0; 2 * PAGE as usize];
    file.read_exact_at(&mut pages, 0).ok()?;
    let file_bytes = file.metadata().ok()?.len();
    Superblock::parse(&pages, file_bytes).ok().map(|layout| layout.pool_bytes)
}

/// Removes the file of a creation that failed, unless somebody else has made a pool of it meanwhile.
pub fn discard_unfinished(file: &Arc<File>, path: &Path) {
    let Ok(_lock) = locked(file) else { return };
    let same = |facts: &Metadata, there: &Metadata| (facts.dev(), facts.ino()) == (there.dev(), there.ino());
    let there = matches!((file.metadata(), path.metadata()), (Ok(facts), Ok(there)) if same(&facts, &there));
    if there && is_unfinished(file) {
        let _ = std::fs::remove_file(path);
    }
}

/// Makes a new file's name durable: that of the file itself, not of a link to it.
pub fn sync_folder(path: &Path) -> Result<()> {
    let synced = path.canonicalize().and_then(|path| {
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    });
    synced.map_err(|source| Error::Io { action: "writing the pool's folder to its medium", source })
}
