//! Reading the public part of a pool without its lock, while somebody else may be writing it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::catalog::{self, Entry};
use crate::error::{Error, Result};
use crate::file::{MAX_POOL_BYTES, accepts_map_sync};
use crate::lock;
use crate::medium::Medium;
use crate::pool::checked_extents;
use crate::romulus::{Heap, State, check_used};
use crate::superblock::{PAGE, STATE_OFFSET, Superblock, word};

/// A writer commits in microseconds; a reader that still meets one each time is looking at damage.
const ATTEMPTS: usize = 100;

/// What anybody may know of a pool.
#[derive(Debug)]
pub struct Status {
    /// The pool's random id.
    pub pool_id: [u8; 16],
    /// Length of the pool.
    pub pool_bytes: u64,
    /// Length of each heap, and how much of it is in use.
    pub heap_bytes: u64,
    /// Bytes of the heap in use.
    pub heap_used_bytes: u64,
    /// Transactions committed since the pool was created.
    pub commits: u64,
    /// What the state word says.
    pub state: State,
    /// The catalog.
    pub entries: Vec<Entry>,
}

impl Status {
    /// Reads the status of the pool at a path.
    pub fn read(path: &Path) -> Result<Self> {
        let file = match lock::open_here(path) {
            Some(file) => file,
            None => Arc::new(open(path)?),
        };
        let mut attempt = Self::attempt(&file);
        for _ in 1..ATTEMPTS {
            if attempt.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            attempt = Self::attempt(&file);
        }
        attempt
    }

    fn attempt(file: &File) -> Result<Self> {
        let mut pages = [0; 2 * PAGE as usize];
        read_at(file, 0, &mut pages)?;
        let size = file.metadata().map_err(|source| Error::Io { action: "asking for the pool's size", source })?.len();
        let layout = Superblock::parse(&pages, size.min(MAX_POOL_BYTES))?;
        let state = read_state(file)?;
        let heap = HeapCopy::read(file, &layout, state)?;
        let status = Self {
            pool_id: layout.pool_id,
            pool_bytes: layout.pool_bytes,
            heap_bytes: layout.heap_bytes,
            heap_used_bytes: heap.used()?,
            commits: heap.commits(),
            state,
            entries: catalog::read(&heap)?,
        };
        checked_extents(&status.entries, &layout)?;
        // ORDER: the state first. Had a transaction been at work on what was read, then either it still is, or it has
        // ended since, and so counted a commit before this looks at the count.
        if read_state(file)? != state || heap.commits() != HeapCopy::read(file, &layout, state)?.commits() {
            return Err(Error::corrupt("it changed while it was read"));
        }
        Ok(status)
    }
}

/// What lies under the file at a path; looks only, and changes nothing.
pub fn medium_of(path: &Path) -> Result<Medium> {
    let file = match lock::open_here(path) {
        Some(file) => file,
        None => Arc::new(File::open(path).map_err(|source| Error::Io { action: "opening the path", source })?),
    };
    Medium::detect(&*file, accepts_map_sync(&file))
}

/// A private copy of the used part of the heap that is whole.
struct HeapCopy {
    heap_bytes: u64,
    bytes: Vec<u8>,
}

impl HeapCopy {
    fn read(file: &File, layout: &Superblock, state: State) -> Result<Self> {
        let offset = if state == State::Mutating { layout.back_offset } else { layout.main_offset };
        let mut used = [0; 8];
        read_at(file, offset, &mut used)?;
        let used = check_used(word(&used), layout.heap_bytes)?;
        let mut bytes = vec![0; used as usize];
        read_at(file, offset, &mut bytes)?;
        Ok(Self { heap_bytes: layout.heap_bytes, bytes })
    }
}

impl Heap for HeapCopy {
    fn heap_bytes(&self) -> u64 {
        self.heap_bytes
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        // A word that changed between two reads may point behind the copy: it reads as zeros, which no check accepts.
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes.len());
        let held = &self.bytes[start..self.bytes.len().min(start.saturating_add(out.len()))];
        out.fill(0);
        out[..held.len()].copy_from_slice(held);
    }
}

fn open(path: &Path) -> Result<File> {
    if !path.is_file() {
        return Err(Error::NotAPool(if path.exists() { "it is not a regular file" } else { "there is no such file" }));
    }
    OpenOptions::new().read(true).open(path).map_err(|source| Error::Io { action: "opening the pool", source })
}

fn read_state(file: &File) -> Result<State> {
    let mut state = [0; 8];
    read_at(file, STATE_OFFSET, &mut state)?;
    State::parse(word(&state))
}

fn read_at(file: &File, at: u64, out: &mut [u8]) -> Result<()> {
    file.read_exact_at(out, at).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::NotAPool("it is too short"),
        _ => Error::Io { action: "reading the pool", source },
    })
}
