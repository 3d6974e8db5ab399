//! Opening a pool, once and no more, and looking at one that is open.

use std::os::unix::fs::PermissionsExt;

use plinius_pm::{Status, medium_of};

use super::*;

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
