//! Telling a pool from an empty file, and making one of the other.

use std::fs::File;
use std::os::unix::fs::FileExt;

use plinius_medium::{Error, MAX_POOL_BYTES, PAGE, Region, Result};

use crate::pool::Options;
use crate::romulus;
use crate::superblock::{CREATING, Superblock};

/// The superblock of a region, checked.
pub fn superblock<R: Region>(region: &R) -> Result<Superblock> {
    if region.len() < 2 * PAGE {
        return Err(Error::NotAPool("it is too short"));
    }
    let mut pages = [0; 2 * PAGE as usize];
    region.load(0, &mut pages);
    Superblock::parse(&pages, region.len())
}

/// An empty file, or one whose creation was cut: nothing but zeros in its one page, or the marker and no superblock.
pub fn is_new<R: Region>(region: &R) -> bool {
    if region.is_empty() {
        return true;
    }
    let mut first = [0; PAGE as usize];
    region.load(0, &mut first);
    let blank = region.len() == PAGE && first == [0; PAGE as usize];
    blank || (first.starts_with(CREATING) && superblock(region).is_err())
}

/// The same of a file: an empty one, or one whose creation was cut.
pub fn is_unfinished(file: &File) -> bool {
    let mut magic = [0; CREATING.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) => magic == *CREATING || magic == [0; CREATING.len()],
        Err(_) => file.metadata().is_ok_and(|facts| facts.len() == 0),
    }
}

/// Makes a pool of a region that is new. Cut by a crash, it leaves a region that is new again.
pub fn create<R: Region>(region: &R, options: Options) -> Result<()> {
    if options.heap_bytes < PAGE || options.heap_bytes > MAX_POOL_BYTES / 4 {
        let (asked, most) = (options.heap_bytes, MAX_POOL_BYTES / 4);
        return Err(Error::Misuse(format!("a heap has {PAGE} to {most} bytes, not heap_bytes={asked}")));
    }
    let layout = Superblock::new(options.pool_id, options.heap_bytes.next_multiple_of(PAGE))?;
    if layout.pool_bytes > options.max_bytes.unwrap_or(u64::MAX) {
        let (needed_bytes, free_bytes) = (layout.pool_bytes, options.max_bytes.unwrap_or(u64::MAX));
        let advice = "choose a larger max_bytes or a smaller heap_bytes";
        return Err(Error::Full { what: "the pool", needed_bytes, free_bytes, advice });
    }
    if region.is_empty() {
        region.grow(PAGE)?;
    }
    // ORDER: the marker is durable before anything else, so that a creation that is cut here begins again.
    region.store(0, CREATING);
    region.pwb(0, CREATING.len() as u64);
    region.psync()?;
    if region.len() < layout.pool_bytes {
        region.grow(layout.pool_bytes)?;
    }
    romulus::format(region, &layout.heap);
    // ORDER: the heaps are durable before a superblock names them.
    region.psync()?;
    layout.store(region)
}
