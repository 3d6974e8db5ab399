//! Looking a pool over: every changed byte is found, or it is one of those that nothing ever reads.

mod recording;
#[path = "../../medium/tests/scratch/mod.rs"]
mod scratch;
mod sparse;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plinius_pm::{Entry, Error, Options, Pool, Region, Status};
use recording::Recording;
use scratch::Scratch;
use sparse::{Counts, Sparse};

const PAGE: usize = 4096;
const STATE: usize = 2 * PAGE;
const MAIN: usize = 3 * PAGE;
const OPTIONS: Options = Options {
    max_bytes: Some(12 * PAGE as u64),
    heap_bytes: PAGE as u64,
    pool_id: [7; 16],
    flush: None,
    require: None,
};

/// Entries with blocks, with extents and with neither, holes in the heap and among the extents, blocks that nobody names,
/// and a heap of two segments.
fn build(pool: &Arc<Pool<Recording>>) {
    let reserved = pool.reserve(&[100, 5_000]).unwrap();
    reserved.write(0, 0, &[0xaa; 100]).unwrap();
    reserved.write(1, 0, &[0xbb; 5_000]).unwrap();
    reserved.fence();
    let owner = |extents| Entry { name: "mirror/a".into(), meta: b"head".to_vec(), block: 0, extents };
    pool.commit(&owner(reserved.extents()), reserved).unwrap();
    let mut tx = pool.transaction().unwrap();
    let blocks: Vec<u64> =
        [300, 40, 1_500, 700, 900, 0, 1_000].iter().map(|bytes| tx.create(&vec![0xcc; *bytes]).unwrap()).collect();
    tx.set("array", b"shape", blocks[2]).unwrap();
    tx.set("large", &[0xdd; 200], blocks[4]).unwrap();
    tx.set("nothing", b"", 0).unwrap();
    tx.commit().unwrap();
    let mut tx = pool.transaction().unwrap();
    [blocks[0], blocks[3]].into_iter().for_each(|block| tx.free(block).unwrap());
    tx.commit().unwrap();
    // Gives one of the extents back, so that there is a hole.
    let kept = pool.entry("mirror/a").unwrap().extents[1..].to_vec();
    pool.commit(&owner(kept), pool.reserve(&[]).unwrap()).unwrap();
}

fn built() -> Vec<u8> {
    let region = Recording::default();
    build(&Pool::over(region.clone(), OPTIONS).unwrap());
    region.bytes()
}

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// Which bytes of the pool are its structure, as the design describes it: the superblocks, the state word, and of every
/// segment of the heap, in both copies, what is in use.
fn structure(file: &[u8]) -> Vec<usize> {
    let mut found: Vec<usize> = (0..STATE + 8).collect();
    let segments = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    assert_eq!(segments, 2, "the heap of this test");
    let mut left = word(file, MAIN);
    for segment in 0..segments {
        let (offset, bytes) = (word(file, 48 + 16 * segment), word(file, 56 + 16 * segment));
        let used = left.min(bytes);
        left -= used;
        found.extend(offset..offset + used);
        found.extend(offset + bytes..offset + bytes + used);
    }
    assert!(left == 0 && found.len() < file.len() - 2 * PAGE);
    found
}

/// Each with one bit changed, and where there is no checksum with all of them.
fn masks(at: usize) -> Vec<u8> {
    let one = 1 << (at % 8);
    if at < STATE { vec![one] } else { vec![one, 0xff] }
}

fn problems(pool: &Pool<Recording>) -> Vec<String> {
    pool.verify().unwrap().problems
}

#[test]
fn a_changed_byte_of_a_closed_pool_is_refused_mended_or_reported() {
    let whole = built();
    assert_eq!(problems(&Pool::over(Recording::holding(&whole), OPTIONS).unwrap()), [""; 0]);
    let (mut refused, mut reported) = (0, 0);
    for at in structure(&whole) {
        for mask in masks(at) {
            let mut changed = whole.clone();
            changed[at] ^= mask;
            let region = Recording::holding(&changed);
            match Pool::over(region.clone(), OPTIONS) {
                Err(error) => {
                    assert!(matches!(error, Error::Corrupt(_)), "byte {at}, {mask:#x}: {error}");
                    assert!(region.bytes() == changed, "byte {at}, {mask:#x}: what was refused was written");
                    refused += 1;
                }
                Ok(pool) if at < STATE => {
                    assert!(region.durable() == whole, "byte {at}, {mask:#x}: the superblock was not mended");
                    assert_eq!(problems(&pool), [""; 0], "byte {at}, {mask:#x}");
                }
                Ok(pool) => {
                    assert_ne!(problems(&pool), [""; 0], "byte {at}, {mask:#x}: nobody sees it");
                    reported += 1;
                }
            }
        }
    }
    assert!(refused > 100 && reported > 1_000, "{refused} refused, {reported} reported");
}

#[test]
fn a_changed_byte_of_an_open_pool_is_reported() {
    let whole = built();
    let region = Recording::holding(&whole);
    let pool = Pool::over(region.clone(), OPTIONS).unwrap();
    for at in structure(&whole) {
        for mask in masks(at) {
            region.store(at as u64, &[whole[at] ^ mask]);
            assert_ne!(problems(&pool), [""; 0], "byte {at}, {mask:#x}: nobody sees it");
        }
        region.store(at as u64, &[whole[at]]);
    }
    assert_eq!(problems(&pool), [""; 0]);
}

/// What nothing reads cannot matter: all of it changed at once changes nothing, in a pool that is opened and in one that
/// is open. It is overwritten before it is used.
#[test]
fn the_bytes_that_do_not_matter_do_not_matter() {
    let whole = built();
    let structure = structure(&whole);
    let mut matters = vec![false; whole.len()];
    structure.iter().for_each(|at| matters[*at] = true);
    let changed: Vec<u8> =
        whole.iter().zip(&matters).map(|(byte, matters)| if *matters { *byte } else { byte ^ 0xff }).collect();
    let open = Recording::holding(&whole);
    let pools =
        [Pool::over(open.clone(), OPTIONS).unwrap(), Pool::over(Recording::holding(&changed), OPTIONS).unwrap()];
    open.store(0, &changed);
    let reference = Pool::over(Recording::holding(&whole), OPTIONS).unwrap();
    for pool in pools {
        assert_eq!(problems(&pool), [""; 0]);
        assert_eq!((pool.entries(), pool.stats().unwrap()), (reference.entries(), reference.stats().unwrap()));
        assert_eq!(pool.verify().unwrap().blocks, reference.verify().unwrap().blocks);
        let mut tx = pool.transaction().unwrap();
        let fresh = tx.allocate(600).and_then(|at| tx.block(at)).unwrap();
        let mut found = vec![1; 600];
        tx.load(fresh, 0, &mut found).unwrap();
        assert!(found == [0; 600]);
        tx.commit().unwrap();
        assert_eq!(problems(&pool), [""; 0]);
    }
}

#[test]
fn a_report_says_where_it_is_wrong_and_which_blocks_there_are() {
    let whole = built();
    let region = Recording::holding(&whole);
    let pool = Pool::over(region.clone(), OPTIONS).unwrap();
    let report = pool.verify().unwrap();
    assert_eq!((report.problems.len(), report.blocks.len()), (0, 5));
    assert!(report.blocks.is_sorted());
    for entry in pool.entries().iter().filter(|entry| entry.block != 0) {
        assert!(report.blocks.contains(&entry.block), "{entry:?}");
    }
    let data = pool.entry("array").unwrap().block as usize;
    let second = word(&whole, 64);
    for (at, what) in [
        (100, "superblock A was changed"),
        (PAGE + 100, "superblock B was changed"),
        (STATE, "its state word is 0x"),
        (MAIN + 16, "somebody else wrote the pool"),
        (MAIN + 40, "its two heaps differ in 1 bytes from 40 on"),
        (MAIN + 64, "the block at 64 of its heap is damaged"),
        (MAIN + data + 5, &format!("its two heaps differ in 1 bytes from {} on", data + 5)),
        (MAIN + PAGE + data + 5, &format!("its two heaps differ in 1 bytes from {} on", data + 5)),
        (second + 70, "its two heaps differ in 1 bytes from 4166 on"),
    ] {
        region.store(at as u64, &[whole[at] ^ 0xff]);
        let found = problems(&pool);
        assert!(found.iter().any(|problem| problem.contains(what)), "byte {at}: {found:?}");
        region.store(at as u64, &[whole[at]]);
    }
}

#[test]
fn a_report_of_a_heap_that_was_overwritten_stays_short() {
    let region = Recording::default();
    let pool = Pool::over(region.clone(), Options { heap_bytes: 2 << 20, max_bytes: None, ..OPTIONS }).unwrap();
    let mut tx = pool.transaction().unwrap();
    let block = tx.allocate(1_900_000).unwrap();
    tx.commit().unwrap();
    region.store(MAIN as u64 + block, &vec![1; 1_900_000]);
    let found = problems(&pool);
    assert!(found.len() == 9 && found[8].starts_with("and in "), "{found:?}");
}

#[test]
fn a_transaction_that_runs_is_waited_for_and_is_no_damage() {
    let pool = Pool::over(Recording::default(), OPTIONS).unwrap();
    build(&pool);
    let mut tx = pool.transaction().unwrap();
    let block = tx.entry("array").unwrap().block;
    let block = tx.block(block).unwrap();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| pool.verify().unwrap());
        for at in (0..1_000).step_by(8) {
            tx.store_word(block, at, at).unwrap();
            std::thread::sleep(Duration::from_micros(100));
        }
        assert!(!looking.is_finished());
        tx.commit().unwrap();
        assert_eq!(looking.join().unwrap().problems, [""; 0]);
    });
}

#[test]
fn a_pool_is_whole_at_every_moment_of_many_transactions() {
    let folder = Scratch::new();
    let pool = Pool::open(&folder.path("a.pool"), Options { max_bytes: None, ..OPTIONS }).unwrap();
    let (rounds, looks) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            // A busy machine may not let the other thread look for many transactions.
            while rounds.load(Ordering::Relaxed) < 500 || looks.load(Ordering::Relaxed) < 5 {
                write_and_drop(&pool, rounds.fetch_add(1, Ordering::Relaxed));
            }
        });
        while !writing.is_finished() {
            let found = pool.verify().unwrap().problems;
            // Counted before it is judged, so that the writer ends in any case.
            looks.fetch_add(1, Ordering::Relaxed);
            assert_eq!(found, [""; 0]);
        }
    });
}

/// Replaces a block by another, frees the old one or leaves it to nobody, and commits that or drops it.
fn write_and_drop(pool: &Arc<Pool>, round: u64) {
    let mut tx = pool.transaction().unwrap();
    let block = tx.create(&vec![round as u8; 10 + 7 * round as usize % 900]).unwrap();
    let old = tx.entry("a").map_or(0, |entry| entry.block);
    tx.set("a", b"", block).unwrap();
    if old != 0 && !round.is_multiple_of(10) {
        tx.free(old).unwrap();
    }
    if !round.is_multiple_of(3) {
        tx.commit().unwrap();
    }
}

#[test]
fn status_tells_what_the_pool_tells_of_a_heap_of_two_segments() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    std::fs::write(&path, built()).unwrap();
    let (status, pool) = (Status::read(&path).unwrap(), Pool::open(&path, OPTIONS).unwrap());
    let stats = pool.stats().unwrap();
    assert_eq!(status.entries, pool.entries());
    assert_eq!(
        (status.heap_bytes, status.pool_bytes, status.commits),
        (stats.heap_bytes, stats.pool_bytes, stats.commits)
    );
    assert_eq!((status.pool_id, stats.entries, stats.blocks), (OPTIONS.pool_id, 4, 5));
    assert!(status.heap_used_bytes > PAGE as u64 && stats.heap_free_bytes > stats.heap_bytes - status.heap_used_bytes);
}

/// The pool of the next test, with its heap and one block and one extent of these lengths.
fn opened(heap_bytes: u64, block_bytes: u64, extent_bytes: u64) -> (u64, Counts) {
    let region = Sparse::default();
    let options = Options { max_bytes: None, heap_bytes, ..OPTIONS };
    let pool = Pool::over(region.clone(), options).unwrap();
    let reserved = pool.reserve(&[extent_bytes]).unwrap();
    let extents = reserved.extents();
    pool.commit(&Entry { name: "a".into(), meta: vec![1; 100], block: 0, extents }, reserved).unwrap();
    let mut tx = pool.transaction().unwrap();
    let blocks = [tx.allocate(block_bytes).unwrap(), tx.create(&[1; 100]).unwrap(), tx.create(&[2; 100]).unwrap()];
    tx.free(blocks[1]).unwrap();
    tx.set("b", b"", blocks[0]).unwrap();
    tx.commit().unwrap();
    drop(pool);
    // Settles the state: a closed pool says that its last transaction has ended, or the next to open it does.
    drop(Pool::over(region.clone(), options).unwrap());
    let counts = region.count(|| drop(Pool::over(region.clone(), options).unwrap()));
    (region.len(), counts)
}

/// What is read to open a pool depends on what is in its catalog and on how many blocks there are, not on its length.
#[test]
fn opening_costs_the_same_whatever_the_pools_length() {
    let (small_bytes, small) = opened(1 << 16, 1_000, 1_000);
    let (large_bytes, large) = opened(1 << 30, 200 << 20, 8 << 30);
    assert!(small_bytes < 1 << 20 && large_bytes > 10 << 30);
    assert_eq!(small, large);
    let nothing = Counts { loaded: small.loaded, ..Counts::default() };
    assert_eq!(small, nothing, "opening a pool that was closed writes nothing");
    assert!(small.loaded < 30_000, "{small:?}");
}

/// Needs 8 GiB of memory under `/dev/shm`: `cargo test --release -- --ignored`.
#[test]
#[ignore = "needs 8 GiB of memory"]
fn a_pool_of_eight_gib_opens_in_milliseconds() {
    let folder = Scratch::new();
    let path = folder.path("large.pool");
    let options = Options { max_bytes: None, ..OPTIONS };
    let pool = Pool::open(&path, options).unwrap();
    let reserved = pool.reserve(&[8 << 30]).unwrap();
    let extents = reserved.extents();
    pool.commit(&Entry { name: "a".into(), meta: vec![], block: 0, extents }, reserved).unwrap();
    drop(pool);
    let begun = Instant::now();
    let pool = Pool::open(&path, options).unwrap();
    let elapsed = begun.elapsed();
    println!("{} bytes opened in {elapsed:?}", pool.bytes().0);
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}
