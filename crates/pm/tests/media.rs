//! What becomes of a pool when its file is cut, its medium has no room for a store, or a page is bad.

mod again;
#[path = "../../medium/tests/scratch/mod.rs"]
mod scratch;

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plinius_pm::{Durability, Entry, Error, Extent, Flush, Options, Pool, Result};
use rustix::fs::{FallocateFlags, fallocate};
use scratch::Scratch;

const OPTIONS: Options = Options { max_bytes: None, heap_bytes: 4096, pool_id: [7; 16], flush: None, require: None };
const EXTENT_BYTES: u64 = 400_000;

fn put(pool: &Arc<Pool>, byte: u8) -> Result<Extent> {
    let reserved = pool.reserve(&[EXTENT_BYTES])?;
    reserved.write(0, 0, &vec![byte; EXTENT_BYTES as usize])?;
    reserved.fence();
    let extent = reserved.extents()[0];
    pool.commit(&Entry { name: "a".into(), meta: vec![byte], block: 0, extents: vec![extent] }, reserved)?;
    Ok(extent)
}

fn read(pool: &Pool, extent: Extent) -> Result<Vec<u8>> {
    let mut bytes = vec![0; extent.bytes as usize];
    pool.read(extent, 0, &mut bytes).map(|()| bytes)
}

/// Cuts a file by its name: closing a descriptor would cost this process its lock.
fn cut(path: &Path, bytes: i64) {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a name that ends with a zero.
    assert_eq!(unsafe { libc::truncate(name.as_ptr(), bytes) }, 0);
}

fn is_cut<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Corrupt(what)) if what.contains("truncated to") || what.contains("was cut away"))
}

#[test]
fn a_pool_that_is_cut_while_threads_use_it_is_an_error_in_each_of_them() {
    for keep in [0, 12_288, 100_000] {
        let scratch = Scratch::new();
        let path = scratch.path("a.pool");
        let pool = Pool::open(&path, OPTIONS).unwrap();
        let extent = put(&pool, 1).unwrap();
        let running = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    running.fetch_add(1, Ordering::Relaxed);
                    let error = (0..).find_map(|_| read(&pool, extent).err());
                    assert!(is_cut(error.map_or(Ok(()), Err)));
                });
            }
            scope.spawn(|| {
                running.fetch_add(1, Ordering::Relaxed);
                let error = (0..u64::MAX).find_map(|round| put(&pool, round as u8).err());
                assert!(is_cut(error.map_or(Ok(()), Err)));
            });
            while running.load(Ordering::Relaxed) < 4 {
                std::thread::yield_now();
            }
            cut(&path, keep);
        });
        assert!(is_cut(put(&pool, 2)) && is_cut(read(&pool, extent)));
        cut(&path, 10 << 20);
        assert!(is_cut(put(&pool, 2)) && is_cut(read(&pool, extent)), "it stays so");
    }
}

/// Each of the 16384 pages of a large extent fails for itself.
#[test]
fn reading_a_large_extent_that_was_cut_away_takes_a_moment_and_no_address_space() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pool");
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let reserved = pool.reserve(&[64 << 20]).unwrap();
    let extent = reserved.extents()[0];
    cut(&path, 4096);
    let begun = std::time::Instant::now();
    assert!(is_cut(read(&pool, extent)));
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    assert!(mappings < 1_000, "{mappings} mappings");
}

/// Nothing faults there: it is found when the lock is taken anew.
#[test]
fn a_cut_within_the_last_page_is_found() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pool");
    let pool = Pool::open(&path, OPTIONS).unwrap();
    put(&pool, 1).unwrap();
    cut(&path, std::fs::metadata(&path).unwrap().len() as i64 - 1);
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(is_cut(pool.reserve(&[1])));
}

#[test]
fn a_forked_child_meets_the_same_error() {
    let scratch = Scratch::new();
    again::run(again::command("in_a_process_that_forks", scratch.path("a.pool")));
}

#[test]
#[ignore = "runs in a process of its own"]
fn in_a_process_that_forks() {
    let path = again::place();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let extent = put(&pool, 1).unwrap();
    let status = again::in_child(|| {
        cut(&path, 8192);
        is_cut(read(&pool, extent))
    });
    assert_eq!(status, 0);
    // The child's fault was the child's; here nobody has touched the missing pages yet.
    assert!(is_cut(read(&pool, extent)));
    assert!(is_cut(put(&pool, 2)));
}

/// The command within a file system in memory of a few MiB at `place`, that only it sees; `None`: not allowed here.
fn in_a_small_file_system(name: &str, place: &Path) -> Option<Command> {
    let inner = again::command(name, place);
    let script = "mount -t tmpfs -o size=4m,mode=700 plinius \"$0\" && exec \"$@\"";
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(place).arg("true");
    if !probe.output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    outer.arg(script).arg(place).arg(inner.get_program()).args(inner.get_args());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(outer)
}

#[test]
fn a_store_that_finds_no_space_is_an_error_and_holes_are_filled_when_a_pool_is_opened() {
    let scratch = Scratch::new();
    match in_a_small_file_system("on_a_small_medium", &scratch.path("")) {
        Some(command) => drop(again::run(command)),
        None => eprintln!("skipped: a file system in memory cannot be mounted here (no user namespaces)"),
    }
}

#[test]
#[ignore = "runs in a process of its own"]
fn on_a_small_medium() {
    let path = again::place().join("a.pool");
    let ballast = again::place().join("ballast");
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let extent = put(&pool, 1).unwrap();
    let reserved = pool.reserve(&[EXTENT_BYTES]).unwrap();
    let fresh = reserved.extents()[0];
    // Whoever copies pools about with holes is another process.
    let status = again::in_child(|| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, flags, fresh.offset, fresh.bytes).is_ok()
    });
    assert_eq!(status, 0);
    fill(&ballast);
    reserved.write(0, 0, &vec![2; EXTENT_BYTES as usize]).unwrap();
    reserved.fence();
    let entry = Entry { name: "a".into(), meta: vec![2], block: 0, extents: vec![fresh] };
    assert!(matches!(pool.commit(&entry, reserved), Err(Error::Full { free_bytes: 0, .. })));
    std::fs::remove_file(&ballast).unwrap();
    assert!(matches!(put(&pool, 3), Err(Error::Full { .. })), "it stays so");
    drop(pool);
    fill(&ballast);
    let before = std::fs::metadata(&path).unwrap();
    assert!(before.blocks() * 512 < before.len(), "the file has no holes");
    assert!(matches!(Pool::open(&path, OPTIONS), Err(Error::Full { free_bytes: 0, .. })));
    std::fs::remove_file(&ballast).unwrap();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let after = std::fs::metadata(&path).unwrap();
    assert!(after.blocks() * 512 >= after.len(), "the holes are not filled");
    assert_eq!(read(&pool, extent).unwrap(), vec![1; EXTENT_BYTES as usize]);
    put(&pool, 4).unwrap();
}

#[test]
fn the_holes_of_what_is_no_pool_stay() {
    let scratch = Scratch::new();
    let path = scratch.path("text");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let before = std::fs::metadata(&path).unwrap().blocks();
    assert!(Pool::open(&path, OPTIONS).is_err());
    assert_eq!(std::fs::metadata(&path).unwrap().blocks(), before);
}

/// Takes all the space that is left.
fn fill(ballast: &Path) {
    let file = File::create(ballast).unwrap();
    let mut at = 0;
    while file.write_all_at(&[1; 4096], at).is_ok() {
        at += 4096;
    }
}

#[test]
fn a_pool_is_not_opened_where_less_survives_than_is_required() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pool");
    let strict = Options { flush: Some(Flush::None), require: Some(Durability::PowerFailure), ..OPTIONS };
    assert!(matches!(Pool::open(&path, strict), Err(Error::Durability { .. })));
    assert!(!path.exists());
    let pool = Pool::open(&path, Options { require: Some(Durability::ProcessCrash), ..OPTIONS }).unwrap();
    put(&pool, 1).unwrap();
    drop(pool);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Pool::open(&path, strict), Err(Error::Durability { .. })));
    assert!(std::fs::read(&path).unwrap() == before);
    for flush in [Flush::Clflush, Flush::None] {
        let pool = Pool::open(&path, Options { flush: Some(flush), ..OPTIONS }).unwrap();
        assert_eq!((pool.flush(), pool.durability()), (flush, Durability::ProcessCrash));
        put(&pool, 2).unwrap();
    }
}
