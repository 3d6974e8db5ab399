//! The files that fuzzing starts from: pools of several shapes, each as a process leaves it that is killed at any fence of
//! its last transaction: idle, mutating, copying, and with the two superblocks apart.

use std::sync::{Arc, LazyLock};

use plinius_pm::{Entry, Options, Pool, Result};

use crate::format::{PAGE, places};
use crate::memory::Memory;

/// A file, and what of it is worth changing.
pub struct Image {
    /// The file.
    pub bytes: Vec<u8>,
    /// Places of words that mean something.
    pub places: Vec<usize>,
}

/// All of them.
pub static IMAGES: LazyLock<Vec<Image>> = LazyLock::new(|| {
    let mut files = [created(), small(), grown(), full()].concat();
    files.dedup();
    files.into_iter().map(|bytes| Image { places: places(&bytes), bytes }).collect()
});

type Built = Arc<Pool<Memory>>;

/// `max_bytes` keeps the pool from growing by more than it needs, so that the files are short.
fn options(max_pages: usize) -> Options {
    let max_bytes = Some((max_pages * PAGE) as u64);
    Options { max_bytes, heap_bytes: PAGE as u64, pool_id: *b"a pool to fuzz..", flush: None, require: None }
}

/// Builds a pool, and returns what its last transaction leaves at each fence.
fn stages(max_pages: usize, build: fn(&Built) -> Result<()>, last: fn(&Built) -> Result<()>) -> Vec<Vec<u8>> {
    let region = Memory::default();
    let pool = Pool::over(region.clone(), options(max_pages)).expect("an empty region becomes a pool");
    build(&pool).expect("a pool has room for what is put there");
    region.record();
    last(&pool).expect("a pool has room for what is put there");
    region.images()
}

/// An empty file on its way to an empty pool.
fn created() -> Vec<Vec<u8>> {
    let region = Memory::default();
    region.record();
    let _ = Pool::over(region.clone(), options(5)).expect("an empty region becomes a pool");
    region.images()
}

/// One segment, with blocks, extents, and holes among both.
fn small() -> Vec<Vec<u8>> {
    let build = |pool: &Built| {
        bulk(pool, "mirror/a", &[5000, 1])?;
        bulk(pool, "data/b", &[4096])?;
        bulk(pool, "mirror/a", &[100])?;
        let mut tx = pool.transaction()?;
        let blocks = [16, 200, 40].map(|bytes| tx.create(&vec![7; bytes]));
        let [first, second, third] = blocks;
        tx.set("array/c", b"meta", first?)?;
        tx.set("list/d", b"", third?)?;
        tx.free(second?)?;
        tx.commit()
    };
    let last = |pool: &Built| {
        let mut tx = pool.transaction()?;
        let block = tx.create(b"made last")?;
        tx.set("array/c", b"longer than before", block)?;
        tx.remove("list/d")?;
        tx.commit()
    };
    stages(10, build, last)
}

/// A heap of several segments with extents between them, whose last transaction adds one more.
fn grown() -> Vec<Vec<u8>> {
    let build = |pool: &Built| {
        for (name, bytes) in [("array/a", 3000), ("array/b", 3500)] {
            bulk(pool, &name.replace("array", "mirror"), &[1])?;
            let mut tx = pool.transaction()?;
            let block = tx.create(&vec![3; bytes])?;
            tx.set(name, name.as_bytes(), block)?;
            tx.commit()?;
        }
        Ok(())
    };
    let last = |pool: &Built| {
        let mut tx = pool.transaction()?;
        let block = tx.allocate(9000)?;
        tx.set("array/c", b"", block)?;
        tx.commit()
    };
    stages(20, build, last)
}

/// A heap without a byte to spare, which ends with a block of none, in a pool that may not grow; its last transaction
/// frees all but that.
fn full() -> Vec<Vec<u8>> {
    let build = |pool: &Built| {
        let mut tx = pool.transaction()?;
        // What the entry of the block at the very end will fit into: 32 bytes, and its name.
        let hole = tx.allocate(48)?;
        for name in ["array/a", "array/b"] {
            let block = tx.allocate(900)?;
            tx.set(name, b"", block)?;
        }
        // A block has a header of 16 bytes, and the heap one of 64.
        let used = 64 + 3 * (16 + 48) + 2 * (16 + 912);
        tx.allocate(PAGE as u64 - used - 16 - 16)?;
        let none = tx.allocate(0)?;
        tx.free(hole)?;
        tx.set("array/none", b"", none)?;
        tx.commit()?;
        assert_eq!(pool.stats()?.heap_free_bytes, 0);
        Ok(())
    };
    let last = |pool: &Built| {
        let mut tx = pool.transaction()?;
        for name in ["array/a", "array/b"] {
            let old = tx.remove(name)?;
            tx.free(old.map_or(0, |old| old.block))?;
        }
        tx.commit()
    };
    stages(5, build, last)
}

/// Puts an entry with extents of these sizes.
pub fn bulk(pool: &Built, name: &str, sizes: &[u64]) -> Result<()> {
    let reserved = pool.reserve(sizes)?;
    for (index, &bytes) in sizes.iter().enumerate() {
        reserved.write(index, 0, &vec![9; bytes as usize])?;
    }
    reserved.fence();
    let entry = Entry { name: name.into(), meta: b"public".to_vec(), block: 0, extents: reserved.extents() };
    pool.commit(&entry, reserved)
}
