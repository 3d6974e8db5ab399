//! Opening, reserving, committing, growing and refusing, on files and in memory.

mod commits;
mod extents;
mod opening;
#[path = "../recording/mod.rs"]
mod recording;
#[path = "../../../medium/tests/scratch/mod.rs"]
mod scratch;

use std::path::Path;
use std::sync::Arc;

use plinius_pm::{Entry, Error, Extent, Options, Pool, Region};
use recording::Recording;
use scratch::Scratch;

const OPTIONS: Options = Options { max_bytes: None, heap_bytes: 4096, pool_id: [7; 16], flush: None, require: None };
const EMPTY_POOL_BYTES: u64 = 5 * 4096;

fn open(path: &Path) -> Arc<Pool> {
    Pool::open(path, OPTIONS).unwrap()
}

fn in_memory() -> (Recording, Arc<Pool<Recording>>) {
    let region = Recording::default();
    (region.clone(), Pool::over(region, OPTIONS).unwrap())
}

fn entry(name: &str, extents: Vec<Extent>) -> Entry {
    Entry { name: name.into(), meta: vec![1, 2, 3], block: 0, extents }
}

fn put<R: Region>(pool: &Arc<Pool<R>>, name: &str, sizes: &[u64]) -> Vec<Extent> {
    let reserved = pool.reserve(sizes).unwrap();
    let extents = reserved.extents();
    pool.commit(&entry(name, extents.clone()), reserved).unwrap();
    extents
}

fn free_bytes<R: Region>(pool: &Arc<Pool<R>>) -> u64 {
    pool.bytes().1
}
