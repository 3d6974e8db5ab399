//! Reading the public part of a pool without its lock, while somebody else may be writing it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use plinius_medium::{Error, MAX_POOL_BYTES, Medium, PAGE, Result, accepts_map_sync};

use crate::alloc;
use crate::catalog::{self, Entry};
use crate::extent::FreeSpace;
use crate::lock::Visit;
use crate::pool::extents;
use crate::romulus::State;
use crate::superblock::{STATE_OFFSET, Superblock, word};
use crate::twins::{COMMITS_OFFSET, Heap, Twin};

/// A writer commits in microseconds, and a reader tries in as many; one that fails for so long is looking at damage.
const PATIENCE: Duration = Duration::from_millis(100);
/// On a busy machine a reader may not come to try for longer than that.
const ATTEMPTS: usize = 100;
/// But a damaged pool with a large heap is not read a hundred times.
const MAX_PATIENCE: Duration = Duration::from_secs(2);

const CHANGED: &str = "it changed while it was read";

/// A catalog that is larger is not read to be shown. A file with holes can claim one of any size.
const MAX_CATALOG_BYTES: u64 = 256 << 20;

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
        let file = Visit::new(path, open)?;
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let attempt = Self::attempt(&file);
            attempts += 1;
            // That somebody writes is seen, and no damage: such a reader only has to be lucky once.
            let is_written = matches!(&attempt, Err(Error::Corrupt(what)) if what == CHANGED);
            let patience = if attempts < ATTEMPTS || is_written { MAX_PATIENCE } else { PATIENCE };
            if attempt.is_ok() || begun.elapsed() > patience {
                return attempt;
            }
            std::thread::yield_now();
        }
    }

    /// One try, which fails also when a writer was faster.
    pub fn attempt(file: &File) -> Result<Self> {
        let mut pages = [0; 2 * PAGE as usize];
        read_at(file, 0, &mut pages)?;
        let size = file.metadata().map_err(|source| Error::Io { action: "asking for the pool's size", source })?.len();
        let layout = Superblock::parse(&pages, size.min(MAX_POOL_BYTES))?;
        let state = read_state(file)?;
        let twin = if state == State::Mutating { Twin::Back } else { Twin::Main };
        let count_offset = layout.heap.locate(twin, COMMITS_OFFSET).0;
        let commits = read_word(file, count_offset)?;
        // ORDER: the state again behind the count. Whatever transaction the count came from has left this copy of the heap
        // whole, and only a later one can touch it.
        unchanged(read_state(file)? == state)?;
        let heap = HeapCopy { file, layout: &layout, twin, pages: RefCell::default() };
        let read = Self::of(&heap, &layout, state);
        heap.readable()?;
        // ORDER: the state before the count. Had a later transaction been at work on what was read, then either it still
        // is, or it has ended since, and so has counted.
        unchanged(read_state(file)? == state)?;
        unchanged(read_word(file, count_offset)? == commits)?;
        read
    }

    fn of(heap: &HeapCopy<'_>, layout: &Superblock, state: State) -> Result<Self> {
        let scan = alloc::scan(heap)?;
        let catalog_bytes: u64 = scan.entries.iter().map(|holder| holder.bytes).sum();
        if catalog_bytes > MAX_CATALOG_BYTES {
            return Err(Error::corrupt(format!("its catalog has {catalog_bytes} bytes, more than is looked at")));
        }
        let index = catalog::read(heap, &scan)?;
        FreeSpace::around(extents(&index), layout)?;
        let mut entries: Vec<Entry> = index.iter().map(|located| (*located.entry).clone()).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            pool_id: layout.pool_id,
            pool_bytes: layout.pool_bytes,
            heap_bytes: layout.heap.bytes(),
            heap_used_bytes: heap.used()?,
            commits: heap.commits(),
            state,
            entries,
        })
    }
}

/// What lies under the file at a path; looks only, and changes nothing.
pub fn medium_of(path: &Path) -> Result<Medium> {
    let file = Visit::new(path, open)?;
    Medium::detect(&*file, accepts_map_sync(&*file))
}

/// A private copy of the parts of a heap that were read, in pages, each fetched once.
struct HeapCopy<'a> {
    file: &'a File,
    layout: &'a Superblock,
    twin: Twin,
    pages: RefCell<HashMap<u64, Result<[u8; PAGE as usize]>>>,
}

impl HeapCopy<'_> {
    /// Copies bytes of a page, which is fetched, or found not to be readable: it reads as zeros then, which no check accepts.
    fn load_of_page(&self, number: u64, start: usize, out: &mut [u8]) {
        let mut pages = self.pages.borrow_mut();
        let page = pages.entry(number).or_insert_with(|| {
            let mut page = [0; PAGE as usize];
            let (offset, _) = self.layout.heap.locate(self.twin, number * PAGE);
            read_at(self.file, offset, &mut page).map(|()| page)
        });
        match page {
            Ok(page) => out.copy_from_slice(&page[start..start + out.len()]),
            Err(_) => out.fill(0),
        }
    }

    /// The first error of the system, if there was one.
    fn readable(self) -> Result<()> {
        self.pages.into_inner().into_values().try_for_each(|page| page.map(drop))
    }
}

impl Heap for HeapCopy<'_> {
    fn heap_bytes(&self) -> u64 {
        self.layout.heap.bytes()
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let here = at + done as u64;
            let start = (here % PAGE) as usize;
            let part = (out.len() - done).min(PAGE as usize - start);
            self.load_of_page(here / PAGE, start, &mut out[done..done + part]);
            done += part;
        }
    }
}

fn open(path: &Path) -> Result<File> {
    if !path.exists() {
        return Err(Error::Misuse("there is no such file; name a pool".into()));
    }
    if !path.is_file() {
        return Err(Error::NotAPool("it is not a regular file"));
    }
    OpenOptions::new().read(true).open(path).map_err(|source| Error::Io { action: "opening the pool", source })
}

fn unchanged(same: bool) -> Result<()> {
    if same { Ok(()) } else { Err(Error::corrupt(CHANGED)) }
}

fn read_state(file: &File) -> Result<State> {
    state(|| read_word(file, STATE_OFFSET))
}

/// A reading beside a store may mix two words, where the system copies byte by byte: that is no damage, but a change.
fn state(mut read: impl FnMut() -> Result<u64>) -> Result<State> {
    let found = read()?;
    State::parse(found).or_else(|damage| unchanged(read()? == found).and(Err(damage)))
}

fn read_word(file: &File, at: u64) -> Result<u64> {
    let mut bytes = [0; 8];
    read_at(file, at, &mut bytes)?;
    Ok(word(&bytes))
}

fn read_at(file: &File, at: u64, out: &mut [u8]) -> Result<()> {
    file.read_exact_at(out, at).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::NotAPool("it is too short"),
        _ => Error::Io { action: "reading the pool", source },
    })
}

#[cfg(test)]
mod tests;
