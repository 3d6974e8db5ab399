//! What the lock of a pool promises, with several processes.

mod again;
#[path = "../../medium/tests/scratch/mod.rs"]
mod scratch;

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plinius_pm::{Entry, Error, Options, Pool, Result, Status, Transaction, medium_of};
use rustix::fs::{FlockOperation, fcntl_lock};
use scratch::Scratch;

const OPTIONS: Options = Options { max_bytes: None, heap_bytes: 4096, pool_id: [7; 16], flush: None, require: None };
/// Longer than a lock is believed to be held without asking.
const A_WHILE: Duration = Duration::from_millis(30);

fn put(pool: &Arc<Pool>) -> Result<()> {
    let reserved = pool.reserve(&[100])?;
    let extents = reserved.extents();
    pool.commit(&Entry { name: "a".into(), meta: vec![1], block: 0, extents }, reserved)
}

/// What this process is told when it opens the pool.
fn holder(path: &Path) -> Option<String> {
    match Pool::open(path, OPTIONS) {
        Err(Error::Busy { holder }) => Some(holder),
        _ => None,
    }
}

/// Runs an ignored test of this file in a process of its own, on a pool in a fresh folder.
fn alone(name: &str) {
    let scratch = Scratch::new();
    again::run(again::command(name, scratch.path("a.pool")));
}

#[test]
fn a_second_process_is_refused_and_learns_who_holds_the_pool() {
    alone("a_second_process");
}

#[test]
#[ignore = "runs in a process of its own"]
fn a_second_process() {
    let path = again::place();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    put(&pool).unwrap();
    let ours = format!("process {}", std::process::id());
    let status = again::in_child(|| {
        let status = Status::read(&path).unwrap();
        status.entries.len() == 1 && holder(&path) == Some(ours)
    });
    assert_eq!(status, 0);
    drop(pool);
    assert_eq!(again::in_child(|| put(&Pool::open(&path, OPTIONS).unwrap()).is_ok()), 0);
}

#[test]
fn a_forked_child_reads_and_cannot_write() {
    alone("a_child_that_tries_to_write");
}

#[test]
#[ignore = "runs in a process of its own"]
fn a_child_that_tries_to_write() {
    let path = again::place();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    put(&pool).unwrap();
    let ours = std::process::id();
    let told = |error: Error| error.to_string().starts_with(&format!("a forked child of process {ours} cannot use"));
    let inherited = pool.clone();
    let status = again::in_child(|| {
        assert!(put(&inherited).is_err_and(told) && inherited.transaction().err().is_some_and(told));
        let extent = inherited.entry("a").unwrap().extents[0];
        inherited.read(extent, 0, &mut [0; 100]).unwrap();
        // The child of the child is refused too, and so is one after the clock has moved on.
        std::thread::sleep(A_WHILE);
        again::in_child(|| put(&inherited).is_err_and(told)) == 0 && put(&inherited).is_err_and(told)
    });
    assert_eq!(status, 0);
    // What the child did and its end took nothing from the parent.
    put(&pool).unwrap();
    let ours = format!("process {ours}");
    assert_eq!(again::in_child(|| holder(&path) == Some(ours)), 0);
}

#[test]
fn a_forked_child_writes_what_it_opened_itself_and_its_children_do_not() {
    alone("a_child_with_a_pool_of_its_own");
}

#[test]
#[ignore = "runs in a process of its own"]
fn a_child_with_a_pool_of_its_own() {
    let path = again::place();
    let first = Pool::open(&path, OPTIONS).unwrap();
    let status = again::in_child(|| {
        let pool = Pool::open(&path.with_extension("other"), OPTIONS).unwrap();
        put(&pool).unwrap();
        again::in_child(|| put(&pool).is_err() && put(&first).is_err()) == 0
            && put(&pool).is_ok()
            && put(&first).is_err()
    });
    assert_eq!(status, 0);
}

#[test]
fn a_forked_child_that_drops_what_it_inherited_keeps_what_it_opened() {
    alone("a_child_that_inherits_and_opens");
}

#[test]
#[ignore = "runs in a process of its own"]
fn a_child_that_inherits_and_opens() {
    let path = again::place();
    let inherited = Pool::open(&path, OPTIONS).unwrap();
    // This process loses its lock, so that the child can have it.
    drop(File::open(&path).unwrap());
    let status = again::in_child(move || {
        let opened = Pool::open(&path, OPTIONS).unwrap();
        drop(inherited);
        let ours = format!("process {}", std::process::id());
        again::in_child(|| holder(&path) == Some(ours)) == 0 && put(&opened).is_ok()
    });
    assert_eq!(status, 0);
}

#[test]
fn a_forked_child_that_lives_on_does_not_keep_the_lock() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pool");
    let mut command = again::command("leaves_a_child_behind", &path);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let child: i32 = fs::read_to_string(path.with_extension("pid")).unwrap().parse().unwrap();
    let begun = Instant::now();
    let opened = Pool::open(&path, OPTIONS).and_then(|pool| put(&pool));
    // SAFETY: a signal to the process that was left behind; the first asks only whether it is there.
    let lived = unsafe { libc::kill(child, 0) == 0 && libc::kill(child, libc::SIGKILL) == 0 };
    assert!(lived && opened.is_ok(), "{opened:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
#[ignore = "runs in a process of its own"]
fn leaves_a_child_behind() {
    let path = again::place();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    put(&pool).unwrap();
    // SAFETY: the child only waits; this process has no other thread that it needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        std::thread::sleep(Duration::from_secs(60));
        std::process::abort();
    }
    fs::write(path.with_extension("pid"), child.to_string()).unwrap();
    // SAFETY: dies as if it were killed, without closing the pool.
    unsafe { libc::_exit(0) };
}

/// The trap of record locks: whoever closes another descriptor of the file gives the lock away.
#[test]
fn a_lock_that_was_lost_is_taken_anew_or_found_missing() {
    alone("loses_its_lock");
}

#[test]
#[ignore = "runs in a process of its own"]
fn loses_its_lock() {
    let path = again::place();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let lose = || drop(File::open(&path).unwrap());
    lose();
    std::thread::sleep(A_WHILE);
    put(&pool).unwrap();
    let ours = format!("process {}", std::process::id());
    assert_eq!(again::in_child(|| holder(&path) == Some(ours)), 0, "it was not taken anew");
    lose();
    let (reader, writer) = std::io::pipe().unwrap();
    // SAFETY: the child uses descriptors only; this process has no other thread that it needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
        std::io::Write::write_all(&mut &writer, b"!").unwrap();
        std::thread::sleep(Duration::from_secs(60));
        std::process::abort();
    }
    std::io::Read::read_exact(&mut &reader, &mut [0]).unwrap();
    std::thread::sleep(A_WHILE);
    for _ in 0..3 {
        let refused = put(&pool).unwrap_err();
        assert!(refused.to_string().contains(&format!("open in process {child};")), "{refused}");
    }
    // SAFETY: our own child.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    put(&pool).unwrap();
}

/// Lost in the middle of a transaction: another process has opened the pool and undone that one.
#[test]
fn a_transaction_whose_lock_was_lost_is_neither_committed_nor_rolled_back_over_the_next_holder() {
    for name in ["loses_its_lock_and_commits", "loses_its_lock_and_rolls_back"] {
        alone(name);
    }
}

#[test]
#[ignore = "runs in a process of its own"]
fn loses_its_lock_and_commits() {
    loses_its_lock_in_a_transaction(|tx| tx.commit());
}

#[test]
#[ignore = "runs in a process of its own"]
fn loses_its_lock_and_rolls_back() {
    loses_its_lock_in_a_transaction(|tx| {
        drop(tx);
        Err(Error::Misuse("somebody else wrote: it was rolled back".into()))
    });
}

fn loses_its_lock_in_a_transaction(end: impl FnOnce(Transaction) -> Result<()>) {
    let path = again::place();
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let mut tx = pool.transaction().unwrap();
    let (a, b) = (tx.allocate(64).unwrap(), tx.allocate(64).unwrap());
    tx.set("a", b"", a).unwrap();
    tx.set("b", b"", b).unwrap();
    tx.commit().unwrap();
    let mut tx = pool.transaction().unwrap();
    let block = tx.block(a).unwrap();
    tx.store_word(block, 0, 1).unwrap();
    drop(File::open(&path).unwrap());
    let (told, tells) = std::io::pipe().unwrap();
    let (hears, says) = std::io::pipe().unwrap();
    // SAFETY: the child uses only what it opens itself; this process has no other thread that it needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let good = std::panic::catch_unwind(|| {
            let other = Pool::open(&path, OPTIONS).unwrap();
            let mut theirs = other.transaction().unwrap();
            let block = theirs.block(a).unwrap();
            theirs.store_word(block, 0, 5).unwrap();
            std::io::Write::write_all(&mut &tells, b"!").unwrap();
            std::io::Read::read_exact(&mut &hears, &mut [0]).unwrap();
            let block = theirs.block(b).unwrap();
            theirs.store_word(block, 0, 5).unwrap();
            theirs.commit().unwrap();
            assert!(other.verify().unwrap().problems.is_empty());
        });
        // SAFETY: ends without unwinding.
        unsafe { libc::_exit(i32::from(good.is_err())) };
    }
    std::io::Read::read_exact(&mut &told, &mut [0]).unwrap();
    let ended = end(tx).unwrap_err();
    assert!(ended.to_string().contains("somebody else wrote"), "{ended}");
    assert!(pool.snapshot().is_err() && pool.reserve(&[1]).is_err() && pool.transaction().is_err());
    std::io::Write::write_all(&mut &says, b"!").unwrap();
    let mut status = -1;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    drop(pool);
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let tx = pool.transaction().unwrap();
    let words = [a, b].map(|at| tx.load_word(tx.block(at).unwrap(), 0).unwrap());
    assert_eq!(words, [5, 5]);
}

#[test]
fn looking_at_a_pool_that_is_opened_meanwhile_does_not_cost_it_its_lock() {
    alone("looks_and_opens");
}

#[test]
#[ignore = "runs in a process of its own"]
fn looks_and_opens() {
    let path = again::place();
    fs::write(&path, b"").unwrap();
    // An empty file is no pool yet, and is tried again for long.
    let look = std::thread::spawn({
        let path = path.clone();
        move || Status::read(&path).is_ok()
    });
    std::thread::sleep(Duration::from_millis(20));
    let pool = Pool::open(&path, OPTIONS).unwrap();
    assert!(look.join().unwrap(), "it has looked only before, or only after");
    medium_of(&path).unwrap();
    let ours = format!("process {}", std::process::id());
    assert_eq!(again::in_child(|| holder(&path) == Some(ours)), 0);
    drop(pool);
    assert_eq!(again::in_child(|| Pool::open(&path, OPTIONS).is_ok()), 0);
}
