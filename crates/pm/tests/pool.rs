//! Opening, reserving, committing, growing and refusing, on files and in memory.

mod recording;
#[path = "../../medium/tests/scratch/mod.rs"]
mod scratch;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use plinius_pm::{EXTENT_ALIGN, Entry, Error, Extent, Options, Pool, Region, Reserved, Status, medium_of};
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

#[test]
fn what_was_committed_is_there_when_the_pool_is_opened_again() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = open(&path);
    let reserved = pool.reserve(&[10_000, 5]).unwrap();
    reserved.write(0, 0, &[3; 9_000]).unwrap();
    reserved.write(0, 9_000, &[4; 1_000]).unwrap();
    reserved.write(1, 0, b"small").unwrap();
    reserved.fence();
    let committed = entry("a", reserved.extents());
    pool.commit(&committed, reserved).unwrap();
    drop(pool);
    let pool = open(&path);
    assert_eq!(pool.entry("a").as_deref(), Some(&committed));
    let mut found = vec![0; 1_500];
    pool.read(committed.extents[0], 8_000, &mut found).unwrap();
    assert!(found[..1_000] == [3; 1_000] && found[1_000..] == [4; 500]);
    pool.read(committed.extents[1], 0, &mut found[..5]).unwrap();
    assert_eq!(&found[..5], b"small");
}

#[test]
fn a_new_pool_has_its_space_and_is_its_owners() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = open(&path);
    put(&pool, "a", &[1 << 20]);
    let facts = std::fs::metadata(&path).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    assert_eq!(facts.len(), pool.bytes().0);
    assert!(std::os::unix::fs::MetadataExt::blocks(&facts) * 512 >= facts.len(), "the file has holes");
}

#[test]
fn what_is_no_pool_is_named_and_left_alone() {
    let folder = Scratch::new();
    for (name, bytes) in [("short", vec![0; 100]), ("zeros", vec![0; 40_000]), ("text", b"hello ".repeat(4000))] {
        let path = folder.path(name);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Pool::open(&path, OPTIONS), Err(Error::NotAPool(_))), "{name}");
        assert!(matches!(Status::read(&path), Err(Error::NotAPool(_))), "{name}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
    }
    for name in ["", "/dev/null"] {
        assert!(matches!(Pool::open(&folder.path(name), OPTIONS), Err(Error::NotAPool(_))), "{name}");
        assert!(matches!(Status::read(&folder.path(name)), Err(Error::NotAPool(_))), "{name}");
    }
    assert!(matches!(Pool::open(&folder.path("missing/a.pool"), OPTIONS), Err(Error::Io { .. })));
    assert!(matches!(Status::read(&folder.path("missing")), Err(Error::Misuse(_))));
}

#[test]
fn an_empty_file_becomes_a_pool() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    std::fs::write(&path, b"").unwrap();
    assert_eq!(open(&path).bytes(), (EMPTY_POOL_BYTES, 0));
}

#[test]
fn the_heaps_length_is_checked_at_creation() {
    for heap_bytes in [0, 4095, (1 << 38) + 1, u64::MAX] {
        let refused = Pool::over(Recording::default(), Options { heap_bytes, ..OPTIONS });
        assert!(matches!(refused, Err(Error::Misuse(_))), "{heap_bytes}");
    }
    let odd = Pool::over(Recording::default(), Options { heap_bytes: 5000, ..OPTIONS }).unwrap();
    assert_eq!(odd.bytes().0, 3 * 4096 + 2 * 8192);
}

#[test]
fn a_pool_without_room_is_full_before_anything_is_made() {
    let small = Options { max_bytes: Some(EMPTY_POOL_BYTES - 1), ..OPTIONS };
    let region = Recording::default();
    assert!(matches!(Pool::over(region.clone(), small), Err(Error::Full { .. })));
    assert!(region.is_empty());
}

#[test]
fn a_pool_grows_as_needed_and_no_further_than_it_may() {
    let max_bytes = Some(EMPTY_POOL_BYTES + (64 << 10));
    let region = Recording::default();
    let pool = Pool::over(region.clone(), Options { max_bytes, ..OPTIONS }).unwrap();
    let before = put(&pool, "a", &[20_000]);
    let full = pool.reserve(&[60_000]).err().unwrap();
    assert!(matches!(full, Error::Full { needed_bytes: 61_440, .. }), "{full}");
    assert_eq!(pool.entry("a").unwrap().extents, before);
    let larger = Pool::over(Recording::holding(&region.bytes()), OPTIONS).unwrap();
    put(&larger, "b", &[60_000]);
    assert_eq!(larger.entry("a").unwrap().extents, before);
}

#[test]
fn a_medium_that_is_full_leaves_the_pool_as_it_was() {
    let (region, pool) = in_memory();
    put(&pool, "a", &[20_000]);
    region.limit(region.len());
    let before = (pool.bytes(), pool.entries());
    assert!(matches!(pool.reserve(&[20_000, 100_000]), Err(Error::Full { .. })));
    assert_eq!((pool.bytes(), pool.entries()), before);
    put(&pool, "b", &[20_000]);
}

#[test]
fn impossible_sizes_are_refused() {
    let (_, pool) = in_memory();
    assert!(matches!(pool.reserve(&[100, 0]), Err(Error::Misuse(_))));
    for sizes in [&[u64::MAX][..], &[1 << 63, 1 << 63], &[(1 << 40) + 1]] {
        let folder = Scratch::new();
        let refused = open(&folder.path("a.pool")).reserve(sizes).err();
        assert!(matches!(refused, Some(Error::Full { .. })), "{sizes:?}: {refused:?}");
    }
    assert!(pool.reserve(&[]).unwrap().extents().is_empty());
}

#[test]
fn a_dropped_reservation_gives_its_space_back() {
    let (_, pool) = in_memory();
    put(&pool, "a", &[1]);
    let before = free_bytes(&pool);
    let reserved = pool.reserve(&[8_192, 1]).unwrap();
    assert_eq!(free_bytes(&pool), before - 3 * EXTENT_ALIGN);
    drop(reserved);
    assert_eq!(free_bytes(&pool), before);
}

#[test]
fn replacing_an_entry_frees_what_it_no_longer_has() {
    let (_, pool) = in_memory();
    let old = put(&pool, "a", &[4_096, 8_192]);
    let before = free_bytes(&pool);
    let reserved = pool.reserve(&[4_096]).unwrap();
    let kept = vec![old[1], reserved.extents()[0]];
    pool.commit(&entry("a", kept.clone()), reserved).unwrap();
    assert_eq!(free_bytes(&pool), before);
    assert_eq!(pool.reserve(&[1]).unwrap().extents()[0].offset, old[0].offset);
    pool.commit(&entry("a", vec![]), pool.reserve(&[]).unwrap()).unwrap();
    assert_eq!(free_bytes(&pool), before + 3 * EXTENT_ALIGN);
}

#[test]
fn a_thousand_commits_need_the_space_of_two() {
    let (_, pool) = in_memory();
    put(&pool, "other", &[3_000]);
    for round in 0..1_000 {
        put(&pool, "a", &[50_000, 300, 10_000 + round % 50]);
    }
    assert!(pool.bytes().0 <= EMPTY_POOL_BYTES + 3 * (64 << 10), "{} bytes", pool.bytes().0);
}

#[test]
fn an_entry_owns_what_was_reserved_for_it_once_and_nothing_else() {
    let (region, pool) = in_memory();
    let other = put(&pool, "other", &[5_000])[0];
    let before = (region.bytes(), pool.bytes());
    let wrong = |extents: &dyn Fn(&Reserved<Recording>) -> Vec<Extent>| {
        let reserved = pool.reserve(&[100, 200]).unwrap();
        let extents = extents(&reserved);
        let refused = pool.commit(&entry("a", extents.clone()), reserved);
        assert!(matches!(refused, Err(Error::Misuse(_))), "{extents:?}");
    };
    wrong(&|reserved| [reserved.extents(), vec![other]].concat());
    wrong(&|reserved| vec![reserved.extents()[0]; 2]);
    wrong(&|reserved| [reserved.extents(), vec![reserved.extents()[1]]].concat());
    wrong(&|reserved| vec![reserved.extents()[1]]);
    wrong(&|reserved| reserved.extents().iter().map(|extent| Extent { bytes: 50, ..*extent }).collect());
    wrong(&|_| vec![Extent { offset: 0, bytes: 4096 }]);
    assert!((region.bytes(), pool.bytes()) == before, "a refused commit changed the pool");
}

#[test]
fn reservations_are_written_inside_and_read_inside() {
    let (_, pool) = in_memory();
    let reserved = pool.reserve(&[100]).unwrap();
    for (index, at, len) in [(0, 1, 100), (0, 101, 0), (0, u64::MAX, 1), (1, 0, 1), (usize::MAX, 0, 0)] {
        assert!(matches!(reserved.write(index, at, &vec![0; len]), Err(Error::Misuse(_))), "{index} {at} {len}");
    }
    let extent = reserved.extents()[0];
    for (extent, at, len) in [
        (extent, 1, 100),
        (extent, u64::MAX, 1),
        (Extent { offset: u64::MAX, ..extent }, 0, 1),
        (Extent { offset: 1 << 20, ..extent }, 0, 1),
        (Extent { bytes: u64::MAX, ..extent }, 1 << 40, 1),
    ] {
        assert!(matches!(pool.read(extent, at, &mut vec![0; len]), Err(Error::Corrupt(_))), "{extent:?} {at} {len}");
    }
}

#[test]
fn joined_reservations_are_committed_together() {
    let (_, pool) = in_memory();
    let joined = pool.reserve(&[100, 200]).unwrap().join(pool.reserve(&[300]).unwrap());
    let extents = joined.extents();
    assert_eq!(extents.iter().map(|extent| extent.bytes).collect::<Vec<_>>(), [100, 200, 300]);
    pool.commit(&entry("a", extents.clone()), joined).unwrap();
    assert_eq!(pool.entry("a").unwrap().extents, extents);
}

/// The first fence of the transaction is that of the extents too.
#[test]
fn a_commit_takes_four_fences_whatever_its_size() {
    let (region, pool) = in_memory();
    put(&pool, "a", &[400_000]);
    for sizes in [&[1][..], &[4_000; 50], &[200_000]] {
        let reserved = pool.reserve(sizes).unwrap();
        let before = region.fences();
        pool.commit(&entry("a", reserved.extents()), reserved).unwrap();
        assert_eq!(region.fences() - before, 4, "{} extents", sizes.len());
    }
}

/// The heap grows by itself, so it is full only when the pool or its medium is.
#[test]
fn a_full_heap_refuses_the_entry_and_keeps_the_old_one() {
    let max_bytes = Some(EMPTY_POOL_BYTES + (64 << 10));
    let pools = [Options { max_bytes, ..OPTIONS }, OPTIONS].map(|options| {
        let region = Recording::default();
        (region.clone(), Pool::over(region, options).unwrap())
    });
    for (region, pool) in pools {
        put(&pool, "a", &[100]);
        region.limit(region.len());
        let (before, bytes, sizes) = (pool.entries(), region.bytes(), pool.bytes());
        let reserved = pool.reserve(&[5_000]).unwrap();
        let large = Entry { meta: vec![0; 40_000], ..entry("a", reserved.extents()) };
        assert!(matches!(pool.commit(&large, reserved), Err(Error::Full { .. })));
        assert_eq!((pool.entries(), pool.bytes()), (before, sizes));
        assert!(region.bytes() == bytes, "a refused commit changed the pool");
        put(&pool, "a", &[5_000]);
    }
}

#[test]
fn an_entry_longer_than_the_heap_makes_it_grow() {
    let (region, pool) = in_memory();
    let large = Entry { meta: (0..50_000).map(|at| (at % 251) as u8).collect(), ..entry("a", put(&pool, "a", &[100])) };
    pool.commit(&large, pool.reserve(&[]).unwrap()).unwrap();
    assert_eq!(pool.entry("a").as_deref(), Some(&large));
    let again = Pool::over(Recording::holding(&region.bytes()), OPTIONS).unwrap();
    assert_eq!(again.entries(), [large]);
    assert_eq!(again.verify().unwrap().problems, [""; 0]);
}

/// Four fences in a commit, which stands from the third of them on.
#[test]
fn a_medium_that_failed_is_not_trusted_again_before_the_pool_was_opened_anew() {
    for working in 0..4 {
        let (region, pool) = in_memory();
        put(&pool, "a", &[100]);
        let reserved = pool.reserve(&[200]).unwrap();
        region.fail_after(Some(working));
        assert!(matches!(pool.commit(&entry("a", reserved.extents()), reserved), Err(Error::Io { .. })));
        region.fail_after(None);
        assert!(matches!(pool.reserve(&[1]), Err(Error::Misuse(_))), "with {working} fences that work");
        drop(pool);
        let pool = Pool::over(region, OPTIONS).unwrap();
        let found = pool.entry("a").unwrap().extents[0].bytes;
        assert_eq!(found, if working < 2 { 100 } else { 200 }, "with {working} fences that work");
    }
}

/// Whoever could write the file although it is locked: what we knew of the free space is no longer true.
#[test]
fn a_pool_that_somebody_else_has_written_is_not_written_any_more() {
    let (region, pool) = in_memory();
    put(&pool, "a", &[100]);
    let reserved = pool.reserve(&[100]).unwrap();
    put(&Pool::over(region.clone(), OPTIONS).unwrap(), "b", &[100]);
    assert!(matches!(pool.commit(&entry("a", reserved.extents()), reserved), Err(Error::Misuse(_))));
    assert!(matches!(pool.reserve(&[100]), Err(Error::Misuse(_))));
    assert_eq!(Pool::over(region, OPTIONS).unwrap().entries().len(), 2);
}

/// The catalog may be changed by anybody while the pool is open. Freeing what it says now would give away another
/// entry's extents, or the superblock; freeing what it said before would make the damage worse.
#[test]
fn a_catalog_that_was_changed_while_open_frees_nothing() {
    let (region, pool) = in_memory();
    put(&pool, "b", &[100]);
    put(&pool, "a", &[100]);
    let (changed, other) = in_memory();
    put(&other, "b", &[100]);
    put(&other, "a", &[9_000]);
    let heap = 3 * 4096 + 64..3 * 4096 + 4096;
    region.store(heap.start as u64, &changed.bytes()[heap.clone()]);
    let (free, bytes) = (free_bytes(&pool), region.bytes());
    assert_ne!(pool.verify().unwrap().problems, [""; 0]);
    let reserved = pool.reserve(&[100]).unwrap();
    assert!(matches!(pool.commit(&entry("a", reserved.extents()), reserved), Err(Error::Corrupt(_))));
    assert!((free_bytes(&pool), region.bytes()) == (free, bytes), "a refused commit changed the pool");
}

/// Every byte of an entry and of the header of its block.
#[test]
fn an_entry_that_was_changed_while_open_is_neither_replaced_nor_removed() {
    let (region, pool) = in_memory();
    let mut tx = pool.transaction().unwrap();
    tx.set("a", b"some bytes", 0).unwrap();
    tx.commit().unwrap();
    let whole = region.bytes();
    for (at, byte) in whole.iter().enumerate().skip(3 * 4096 + 64).take(16 + 43) {
        region.store(at as u64, &[byte ^ 1]);
        let before = region.bytes();
        let mut tx = pool.transaction().unwrap();
        assert!(matches!(tx.set("a", b"", 0), Err(Error::Corrupt(_))), "byte {at}");
        assert!(matches!(tx.remove("a"), Err(Error::Corrupt(_))), "byte {at}");
        drop(tx);
        assert!(region.bytes() == before, "byte {at}");
        region.store(at as u64, &[*byte]);
    }
    let mut tx = pool.transaction().unwrap();
    tx.remove("a").unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_pool_is_opened_once_in_a_process() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = open(&path);
    assert!(matches!(Pool::open(&path, OPTIONS), Err(Error::Busy { .. })));
    let link = folder.path("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Pool::open(&link, OPTIONS), Err(Error::Busy { .. })));
    drop(pool);
    open(&path);
}

#[test]
fn of_many_threads_that_open_a_pool_one_gets_it() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    drop(open(&path));
    for _ in 0..50 {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Pool::open(&path, OPTIONS))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }
}

#[test]
fn status_never_errs_and_is_never_wrong_while_a_writer_commits() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = open(&path);
    put(&pool, "a", &[100]);
    put(&pool, "b", &[100]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_status(&path));
        let mut round = 0_u64;
        while !reader.is_finished() {
            round += 1;
            let reserved = pool.reserve(&[1 + round % 60_000]).unwrap();
            // The longest of them make the heap grow.
            let meta = vec![round as u8; (round % 90 * (round.min(1_000) / 10)) as usize + 1];
            pool.commit(&Entry { name: "a".into(), meta, block: 0, extents: reserved.extents() }, reserved).unwrap();
        }
    });
}

fn read_status(path: &Path) {
    let (mut commits, mut reads, mut heap_bytes) = (0, 0, 0);
    while reads < 2_000 || commits < 1_000 {
        reads += 1;
        let status = Status::read(path).unwrap();
        heap_bytes = status.heap_bytes;
        assert!(status.commits >= commits, "{} after {commits}", status.commits);
        commits = status.commits;
        let mut names: Vec<&str> = status.entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
        let a = status.entries.iter().find(|entry| entry.name == "a").unwrap();
        assert!(commits <= 2 || a.meta.iter().all(|byte| u64::from(*byte) == (commits - 2) % 256), "torn");
    }
    assert!(heap_bytes > OPTIONS.heap_bytes, "the heap has not grown");
}

#[test]
fn the_medium_of_a_path_can_be_asked_without_changing_it() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = open(&path);
    assert_eq!(medium_of(&path).unwrap(), pool.medium());
    assert!(matches!(medium_of(&folder.path("")), Err(Error::NotAPool(_))));
    assert!(matches!(medium_of(&folder.path("missing")), Err(Error::Misuse(_))));
}
