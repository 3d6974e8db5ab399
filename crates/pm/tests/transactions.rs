//! Transactions: what they see, what others see meanwhile, what is left when they end in each of their ways.

mod recording;
mod scratch;
mod sparse;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use plinius_pm::{Entry, Error, Options, Pool, Region, Result, Stats, Transaction};
use recording::Recording;
use scratch::Scratch;
use sparse::Sparse;

const HEAP_BYTES: u64 = 1 << 16;
const OPTIONS: Options =
    Options { max_bytes: None, heap_bytes: HEAP_BYTES, pool_id: [7; 16], flush: None, require: None };
const SMALL: Options = Options { heap_bytes: 4096, ..OPTIONS };
/// For what must not take for ever.
const PATIENCE: Duration = Duration::from_secs(300);

fn in_memory(options: Options) -> (Recording, Arc<Pool<Recording>>) {
    let region = Recording::default();
    (region.clone(), Pool::over(region, options).unwrap())
}

/// Runs a transaction to its end.
fn transact<R: Region, T>(pool: &Arc<Pool<R>>, work: impl FnOnce(&mut Transaction<R>) -> Result<T>) -> Result<T> {
    let mut tx = pool.transaction()?;
    let result = work(&mut tx)?;
    tx.commit()?;
    Ok(result)
}

/// Sets an entry to a new block of these bytes.
fn put<R: Region>(pool: &Arc<Pool<R>>, name: &str, bytes: &[u8]) -> u64 {
    transact(pool, |tx| tx.create(bytes).and_then(|block| tx.set(name, b"", block).map(|()| block))).unwrap()
}

/// The bytes of the block that an entry names.
fn get<R: Region>(pool: &Arc<Pool<R>>, name: &str) -> Option<Vec<u8>> {
    let snapshot = pool.snapshot().unwrap();
    let block = snapshot.block(snapshot.entry(name)?.block).unwrap();
    let mut bytes = vec![0; block.bytes() as usize];
    snapshot.load(block, 0, &mut bytes).unwrap();
    Some(bytes)
}

/// The pool as it would be opened after a crash of the process: everything in it is whole.
fn reopened(region: &Recording, options: Options) -> Arc<Pool<Recording>> {
    let pool = Pool::over(Recording::holding(&region.bytes()), options).unwrap();
    assert_eq!(pool.verify().unwrap().problems, [""; 0]);
    pool
}

fn stats<R: Region>(pool: &Arc<Pool<R>>) -> Stats {
    pool.stats().unwrap()
}

#[test]
fn what_was_committed_is_there_when_the_pool_is_opened_again() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let zeros = transact(&pool, |tx| {
        let (zeros, text) = (tx.allocate(100)?, tx.create(b"some text")?);
        tx.set("zeros", b"meta", zeros)?;
        tx.set("text", b"", text)?;
        tx.set("nothing", b"no block", 0)?;
        Ok(zeros)
    });
    let zeros = zeros.unwrap();
    transact(&pool, |tx| tx.block(zeros).and_then(|block| tx.store_word(block, 96, 5))).unwrap();
    drop(pool);
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let entry = |name: &str, meta: &[u8], block| Entry { name: name.into(), meta: meta.into(), block, extents: vec![] };
    let text = pool.entry("text").unwrap().block;
    let all = [entry("nothing", b"no block", 0), entry("text", b"", text), entry("zeros", b"meta", zeros)];
    assert_eq!(pool.entries(), all);
    let words = get(&pool, "zeros").unwrap();
    assert!(words[..96] == [0; 96] && words[96..] == [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(get(&pool, "text").unwrap(), b"some text\0\0\0\0\0\0\0");
    let report = pool.verify().unwrap();
    assert_eq!((report.problems, report.blocks), (vec![], vec![zeros, text]));
}

#[test]
fn a_block_is_zero_wherever_it_lies_and_whatever_lay_there() {
    let (_, pool) = in_memory(OPTIONS);
    for (bytes, asked) in [(48, 48), (5_000, 5_000), (5_000, 17), (64, 1), (16, 0)] {
        let old = put(&pool, "old", &vec![0xff; bytes]);
        transact(&pool, |tx| tx.remove("old").and_then(|_| tx.free(old))).unwrap();
        let fresh = transact(&pool, |tx| {
            let (zeros, short) = (tx.allocate(asked)?, tx.create(&vec![1; asked as usize])?);
            assert_eq!(zeros, old);
            for (at, length) in [(zeros, 0), (short, asked)] {
                let block = tx.block(at)?;
                let mut found = vec![7; block.bytes() as usize];
                tx.load(block, 0, &mut found)?;
                assert_eq!(block.bytes(), asked.next_multiple_of(16));
                assert!(found[..length as usize].iter().all(|byte| *byte == 1));
                assert!(
                    found[length as usize..].iter().all(|byte| *byte == 0),
                    "{asked} bytes: old bytes behind {length}"
                );
            }
            Ok([zeros, short])
        });
        let fresh = fresh.unwrap();
        transact(&pool, |tx| fresh.into_iter().try_for_each(|block| tx.free(block))).unwrap();
    }
    assert_eq!(stats(&pool).heap_free_bytes, HEAP_BYTES - 64);
}

#[test]
fn changes_are_seen_inside_and_not_outside_until_the_commit() {
    let (_, pool) = in_memory(OPTIONS);
    let a = put(&pool, "a", &[1; 16]);
    put(&pool, "b", &[2; 16]);
    let mut tx = pool.transaction().unwrap();
    let block = tx.block(a).unwrap();
    tx.store(block, 4, &[9; 4]).unwrap();
    tx.remove("b").unwrap().unwrap();
    let c = tx.create(&[3; 16]).unwrap();
    tx.set("c", b"new", c).unwrap();
    tx.set("a", b"changed", a).unwrap();

    let mut inside = [0; 16];
    tx.load(block, 0, &mut inside).unwrap();
    assert_eq!(inside, [1, 1, 1, 1, 9, 9, 9, 9, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(tx.load_word(block, 0).unwrap(), 0x0909_0909_0101_0101);
    let mut names = tx.names();
    names.sort_unstable();
    assert_eq!(
        (names, tx.entry("b").is_none(), &tx.entry("a").unwrap().meta[..]),
        (vec!["a".into(), "c".into()], true, &b"changed"[..])
    );

    let mut names = pool.snapshot().unwrap().names();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((get(&pool, "a").unwrap(), get(&pool, "c")), (vec![1; 16], None));
    assert!(pool.snapshot().unwrap().block(c).is_err());
    assert_eq!((&pool.entry("a").unwrap().meta[..], pool.entries().len()), (&b""[..], 2));
    let before = stats(&pool);

    tx.commit().unwrap();
    assert_eq!(
        (get(&pool, "a").unwrap(), get(&pool, "c").unwrap(), get(&pool, "b")),
        (inside.to_vec(), vec![3; 16], None)
    );
    assert_eq!(pool.entries().iter().map(|entry| &entry.meta[..]).collect::<Vec<_>>(), [&b"changed"[..], b"new"]);
    let after = stats(&pool);
    assert_eq!((after.entries, after.blocks, after.commits), (2, before.blocks + 1, before.commits + 1));
}

#[test]
fn a_transaction_that_changes_nothing_costs_nothing() {
    let (region, pool) = in_memory(OPTIONS);
    put(&pool, "a", &[1; 16]);
    let (bytes, fences, before) = (region.bytes(), region.fences(), stats(&pool));
    pool.transaction().unwrap().commit().unwrap();
    drop(pool.transaction().unwrap());
    transact(&pool, |tx| tx.remove("nobody").map(|removed| assert!(removed.is_none()))).unwrap();
    assert!((region.bytes(), region.fences(), stats(&pool)) == (bytes, fences, before));
}

#[test]
fn a_dropped_transaction_has_changed_nothing() {
    type Work<'a> = &'a dyn Fn(&mut Transaction<Recording>, u64, u64) -> Result<()>;
    let aborted: [Work<'_>; 6] = [
        &|tx, a, _| tx.store(tx.block(a)?, 0, &[9; 500]),
        &|tx, _, _| tx.create(&[9; 100]).and_then(|block| tx.set("c", b"", block)),
        &|tx, a, _| tx.remove("a").and_then(|_| tx.free(a)),
        &|tx, a, _| tx.set("b", &[9; 200], 0).and_then(|()| tx.set("c", &[9; 200], a)),
        &|tx, _, b| tx.free(b).and_then(|()| tx.create(&[9; 3_000]).map(drop)),
        &|tx, _, _| (0..100).try_for_each(|_| tx.create(&[9; 100]).map(drop)),
    ];
    for (number, work) in aborted.into_iter().enumerate() {
        let (region, pool) = in_memory(OPTIONS);
        let (a, b) = (put(&pool, "a", &[1; 500]), put(&pool, "b", &[2; 300]));
        let (before, entries) = (stats(&pool), pool.entries());
        let mut tx = pool.transaction().unwrap();
        work(&mut tx, a, b).unwrap();
        drop(tx);
        assert_eq!((stats(&pool), pool.entries()), (before, entries), "transaction {number}");
        let fresh = transact(&pool, |tx| tx.create(&[3; 200])).unwrap();
        for pool in [&pool, &reopened(&region, OPTIONS)] {
            assert!(get(pool, "a").unwrap()[..500] == [1; 500], "transaction {number}");
            assert!(get(pool, "b").unwrap()[..300] == [2; 300], "transaction {number}");
            assert_eq!(pool.verify().unwrap().blocks, [a, b, fresh], "transaction {number}");
        }
    }
}

#[test]
fn a_transaction_in_which_somebody_panics_is_rolled_back() {
    let (region, pool) = in_memory(OPTIONS);
    let a = put(&pool, "a", &[1; 500]);
    let before = stats(&pool);
    let panics = AssertUnwindSafe(|| {
        let mut tx = pool.transaction().unwrap();
        let block = tx.block(a).unwrap();
        tx.store(block, 0, &[9; 500]).unwrap();
        std::panic::resume_unwind(Box::new("a user's mistake"));
    });
    assert!(catch_unwind(panics).is_err());
    assert_eq!((stats(&pool), &get(&pool, "a").unwrap()[..500]), (before, &[1; 500][..]));
    put(&pool, "b", &[2; 100]);
    assert_eq!(reopened(&region, OPTIONS).entries().len(), 2);
}

/// What a random run believes to be in the pool: the bytes of each entry's block.
type Model = BTreeMap<String, Vec<u8>>;

/// A few random changes, in the pool and in the model.
fn change(tx: &mut Transaction<Recording>, model: &mut Model, next: &mut impl FnMut(u64) -> u64) {
    for _ in 0..1 + next(5) {
        let name = format!("entry {}", next(12));
        let old = tx.entry(&name).map(|entry| entry.block);
        match (next(4), old) {
            (0, Some(old)) => {
                tx.remove(&name).unwrap();
                tx.free(old).unwrap();
                model.remove(&name);
            }
            (1 | 2, Some(old)) => {
                let (block, bytes) = (tx.block(old).unwrap(), model.get_mut(&name).unwrap());
                let at = next(bytes.len() as u64 + 1) as usize;
                let part = &mut bytes[at..];
                part.fill(next(256) as u8);
                tx.store(block, at as u64, part).unwrap();
            }
            (_, old) => {
                let bytes = vec![next(256) as u8; next(3) as usize * next(700) as usize];
                let block = tx.create(&bytes).unwrap();
                tx.set(&name, &vec![1; next(90) as usize], block).unwrap();
                old.into_iter().for_each(|old| tx.free(old).unwrap());
                model.insert(name, bytes);
            }
        }
    }
}

/// Commits and aborts in a long random row, the heap growing on the way: no block ever overlaps another, nothing that was
/// committed is lost, nothing that was rolled back is left.
#[test]
fn a_random_run_of_commits_and_aborts_holds_what_a_map_would() {
    let (region, mut pool) = in_memory(SMALL);
    let mut model = Model::new();
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..1_500 {
        let (mut changed, before) = (model.clone(), stats(&pool));
        let mut tx = pool.transaction().unwrap();
        change(&mut tx, &mut changed, &mut next);
        if next(3) == 0 {
            drop(tx);
            let after = stats(&pool);
            assert_eq!((after.entries, after.blocks, after.commits), (before.entries, before.blocks, before.commits));
        } else {
            tx.commit().unwrap();
            model = changed;
        }
        if round % 100 == 99 {
            pool = Pool::over(region.clone(), SMALL).unwrap();
        }
        let entries = pool.entries();
        assert_eq!(entries.len(), model.len(), "round {round}");
        let mut blocks: Vec<u64> = entries.iter().map(|entry| entry.block).collect();
        blocks.sort_unstable();
        let report = pool.verify().unwrap();
        assert_eq!((report.problems, report.blocks), (vec![], blocks), "round {round}");
        for (name, bytes) in &model {
            assert!(get(&pool, name).unwrap()[..bytes.len()] == bytes[..], "round {round}: {name}");
        }
    }
    assert!(stats(&pool).heap_bytes > SMALL.heap_bytes, "the heap has not grown");
    transact(&pool, |tx| {
        for name in model.keys() {
            let block = tx.remove(name)?.map_or(0, |entry| entry.block);
            tx.free(block)?;
        }
        Ok(())
    })
    .unwrap();
    let empty = stats(&pool);
    assert_eq!((empty.heap_free_bytes, empty.entries, empty.blocks), (empty.heap_bytes - 64, 0, 0));
}

#[test]
fn a_thousand_replacements_take_no_more_room_than_a_few() {
    let (_, pool) = in_memory(SMALL);
    for round in 0..1_000_u64 {
        transact(&pool, |tx| {
            tx.set("a", &vec![1; (round % 400) as usize], 0)?;
            tx.set("b", &vec![2; (round % 70) as usize], 0)?;
            tx.set("c", b"", 0)?;
            tx.remove("c").map(drop)
        })
        .unwrap();
    }
    assert_eq!(stats(&pool).heap_bytes, SMALL.heap_bytes);
}

#[test]
fn what_is_nested_in_one_thread_is_refused_and_the_outer_one_goes_on() {
    let (region, pool) = in_memory(OPTIONS);
    let a = put(&pool, "a", &[1; 16]);
    let mut tx = pool.transaction().unwrap();
    let block = tx.block(a).unwrap();
    tx.store(block, 0, &[2; 16]).unwrap();
    assert!(matches!(pool.transaction().err(), Some(Error::Misuse(_))));
    let entry = Entry { name: "b".into(), meta: vec![], block: 0, extents: vec![] };
    assert!(matches!(pool.commit(&entry, pool.reserve(&[]).unwrap()), Err(Error::Misuse(_))));
    assert!(matches!(pool.verify(), Err(Error::Misuse(_))));
    tx.set("c", b"", 0).unwrap();
    tx.commit().unwrap();
    assert_eq!((get(&pool, "a").unwrap(), pool.entries().len()), (vec![2; 16], 2));
    drop(pool.transaction().unwrap());
    pool.transaction().unwrap().commit().unwrap();
    assert_eq!(reopened(&region, OPTIONS).entries().len(), 2);
    // Another pool is another matter.
    let (_, other) = in_memory(OPTIONS);
    let _outer = pool.transaction().unwrap();
    put(&other, "a", &[1; 16]);
}

#[test]
fn a_transaction_moves_to_another_thread() {
    let (region, pool) = in_memory(OPTIONS);
    for (commit, name) in [(true, "a"), (false, "b"), (true, "c")] {
        let mut tx = pool.transaction().unwrap();
        tx.set(name, b"here", 0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                tx.set(name, b"there", 0).unwrap();
                if commit {
                    tx.commit().unwrap();
                }
            });
        });
    }
    let names =
        |pool: &Pool<Recording>| pool.entries().into_iter().map(|entry| (entry.name, entry.meta)).collect::<Vec<_>>();
    let expected = ["a", "c"].map(|name| (name.to_owned(), b"there".to_vec()));
    assert_eq!(names(&pool), expected);
    assert_eq!(names(&reopened(&region, OPTIONS)), expected);
}

#[test]
fn a_transaction_keeps_its_pool_open() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = Pool::open(&path, OPTIONS).unwrap();
    let mut tx = pool.transaction().unwrap();
    drop(pool);
    assert!(matches!(Pool::open(&path, OPTIONS), Err(Error::Busy { .. })));
    tx.set("a", b"", 0).unwrap();
    tx.commit().unwrap();
    assert_eq!(Pool::open(&path, OPTIONS).unwrap().entries().len(), 1);
}

/// Threads that each add to random counters of one block, and to one in the meta of an entry.
fn count_in_threads<R: Region>(pool: &Arc<Pool<R>>, threads: u64, rounds: u64) {
    const COUNTERS: u64 = 40;
    let counters = put(pool, "counters", &[0; 8 * COUNTERS as usize]);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut tx = pool.transaction().unwrap();
                    let block = tx.block(counters).unwrap();
                    for place in [round * 7 + thread, round] {
                        let at = place % COUNTERS * 8;
                        let count = tx.load_word(block, at).unwrap();
                        tx.store_word(block, at, count + 1).unwrap();
                    }
                    let sum = u64::from_le_bytes(tx.entry("counters").unwrap().meta[..].try_into().unwrap_or([0; 8]));
                    tx.set("counters", &(sum + 2).to_le_bytes(), counters).unwrap();
                    if round % 5 != 4 {
                        tx.commit().unwrap();
                    }
                }
            });
        }
    });
    let expected = threads * (rounds - rounds / 5) * 2;
    let words = get(pool, "counters").unwrap();
    let sum: u64 = words.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).sum();
    assert_eq!((sum, &pool.entry("counters").unwrap().meta[..]), (expected, &expected.to_le_bytes()[..]));
    assert_eq!(stats(pool).commits, 1 + expected / 2);
    assert_eq!(pool.verify().unwrap().problems, [""; 0]);
}

#[test]
fn no_update_of_eight_threads_is_lost() {
    let folder = Scratch::new();
    count_in_threads(&Pool::open(&folder.path("a.pool"), SMALL).unwrap(), 8, 300);
    count_in_threads(&in_memory(SMALL).1, 8, 100);
}

/// One state of the pool of `readers_in_parallel`: the number in every word of its block, and in the entry's meta.
fn read_state<R: Region>(pool: &Arc<Pool<R>>) -> u64 {
    let snapshot = pool.snapshot().unwrap();
    let entry = snapshot.entry("state").unwrap();
    let state = u64::from_le_bytes(entry.meta[..].try_into().unwrap());
    let block = snapshot.block(entry.block).unwrap();
    assert_eq!(block.bytes(), state_bytes(state), "the entry of another state");
    for at in (0..block.bytes()).step_by(40) {
        let mut word = [0; 8];
        snapshot.load(block, at, &mut word).unwrap();
        assert_eq!(u64::from_le_bytes(word), state, "torn at {at} of {}", block.bytes());
    }
    state
}

/// The block grows now and then, and with it the heap.
fn state_bytes(state: u64) -> u64 {
    64 + state / 10 % 12 * 400
}

/// Sets a flag when it goes, also when a test fails: who waits for it must not wait for ever.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every state is one number in many words; readers must never see two of them at once, nor one that is older than what
/// they have seen.
fn readers_in_parallel<R: Region>(pool: &Arc<Pool<R>>, states: u64) {
    let set = |state: u64| {
        transact(pool, |tx| {
            let bytes = state.to_le_bytes().repeat(state_bytes(state) as usize / 8);
            let old = tx.entry("state").map(|entry| tx.block(entry.block)).transpose()?;
            let block = match old {
                Some(old) if old.bytes() == bytes.len() as u64 => {
                    (0..old.bytes()).step_by(8).try_for_each(|at| tx.store_word(old, at, state))?;
                    old.at()
                }
                old => {
                    let fresh = tx.create(&bytes)?;
                    old.map_or(Ok(()), |old| tx.free(old.at()))?;
                    fresh
                }
            };
            tx.set("state", &state.to_le_bytes(), block)
        })
        .unwrap();
    };
    set(0);
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let state = read_state(pool);
                    assert!(state >= seen, "{state} after {seen}");
                    changes.fetch_add(u64::from(state > seen), Ordering::Relaxed);
                    seen = state;
                    let entry = pool.entry("state").unwrap();
                    let state = u64::from_le_bytes(entry.meta[..].try_into().unwrap());
                    assert!(state >= seen, "{state} after {seen}");
                    seen = state;
                }
            });
        }
        let _finish = Finish(&done);
        let begun = Instant::now();
        let mut state = 0;
        // A busy machine may not let the readers run for many states.
        while state < states || changes.load(Ordering::Relaxed) < 12 {
            assert!(begun.elapsed() < PATIENCE, "the readers have seen {changes:?} states of {state}");
            state += 1;
            set(state);
            assert_eq!(read_state(pool), state, "a writer does not see its own commit");
            if state % 7 == 0 {
                let mut tx = pool.transaction().unwrap();
                let block = tx.block(tx.entry("state").unwrap().block).unwrap();
                tx.store(block, 0, &vec![0xee; block.bytes() as usize]).unwrap();
            }
        }
    });
    assert!(stats(pool).heap_bytes > SMALL.heap_bytes, "the heap has not grown");
    assert_eq!(pool.verify().unwrap().problems, [""; 0]);
}

#[test]
fn readers_see_whole_states_and_never_an_older_one() {
    let folder = Scratch::new();
    readers_in_parallel(&Pool::open(&folder.path("a.pool"), SMALL).unwrap(), 200);
}

#[test]
fn readers_see_whole_states_on_a_medium_where_every_word_takes_its_time() {
    readers_in_parallel(&in_memory(SMALL).1, 100);
}

#[test]
fn a_snapshot_stays_what_it_was_and_new_ones_are_newer() {
    let (_, pool) = in_memory(OPTIONS);
    let a = put(&pool, "a", &[1; 64]);
    let old = pool.snapshot().unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| transact(&pool, |tx| tx.block(a).and_then(|block| tx.store(block, 0, &[2; 64]))));
        while get(&pool, "a").unwrap() != [2; 64] {
            assert!(begun.elapsed() < PATIENCE, "the commit does not become visible while somebody reads");
            std::thread::yield_now();
        }
        // Durable and visible; what is being read is not copied over yet.
        assert!(!writer.is_finished());
        let mut found = [0; 64];
        old.load(old.block(a).unwrap(), 0, &mut found).unwrap();
        assert_eq!(found, [1; 64]);
        drop(old);
        writer.join().unwrap().unwrap();
    });
    assert_eq!(pool.verify().unwrap().problems, [""; 0]);
}

#[test]
fn space_is_reserved_while_another_threads_transaction_is_open() {
    let (region, pool) = in_memory(OPTIONS);
    let mut tx = pool.transaction().unwrap();
    tx.set("a", b"", 0).unwrap();
    let extents = std::thread::scope(|scope| {
        let reserving = scope.spawn(|| {
            let reserved = pool.reserve(&[100_000, 5]).unwrap();
            reserved.write(0, 0, &[4; 100_000]).unwrap();
            reserved.fence();
            let extents = reserved.extents();
            let entry = Entry { name: "b".into(), meta: vec![], block: 0, extents: extents.clone() };
            // Waits for the transaction, which another thread ends.
            std::thread::scope(|inner| {
                inner.spawn(|| tx.commit().unwrap());
                pool.commit(&entry, reserved).unwrap();
            });
            extents
        });
        reserving.join().unwrap()
    });
    let again = reopened(&region, OPTIONS);
    assert_eq!((again.entries().len(), &again.entry("b").unwrap().extents), (2, &extents));
}

#[test]
fn an_entry_that_owns_extents_is_not_changed_by_a_transaction() {
    let (_, pool) = in_memory(OPTIONS);
    let reserved = pool.reserve(&[100]).unwrap();
    let entry = Entry { name: "a".into(), meta: vec![1], block: 0, extents: reserved.extents() };
    pool.commit(&entry, reserved).unwrap();
    let mut tx = pool.transaction().unwrap();
    assert!(matches!(tx.set("a", b"", 0), Err(Error::Misuse(_))));
    assert!(matches!(tx.remove("a"), Err(Error::Misuse(_))));
    tx.set("b", b"", 0).unwrap();
    tx.commit().unwrap();
    assert_eq!(pool.entry("a").as_deref(), Some(&entry));
}

#[test]
fn a_name_has_1_to_255_bytes() {
    let (region, pool) = in_memory(OPTIONS);
    let mut tx = pool.transaction().unwrap();
    for name in [String::new(), "x".repeat(256), "é".repeat(128)] {
        assert!(matches!(tx.set(&name, b"", 0), Err(Error::Misuse(_))), "{name}");
        assert!(tx.entry(&name).is_none() && tx.remove(&name).unwrap().is_none());
    }
    for name in ["x".to_owned(), "x".repeat(255), "é".repeat(127), "a\0b\n".to_owned()] {
        tx.set(&name, name.as_bytes(), 0).unwrap();
    }
    tx.commit().unwrap();
    let entries = reopened(&region, OPTIONS).entries();
    assert!(entries.len() == 4 && entries.iter().all(|entry| entry.meta == entry.name.as_bytes()));
}

#[test]
fn what_is_not_inside_a_block_is_refused() {
    let (region, pool) = in_memory(OPTIONS);
    let a = put(&pool, "a", &[1; 100]);
    let bytes = region.bytes();
    let mut tx = pool.transaction().unwrap();
    let block = tx.block(a).unwrap();
    assert_eq!((block.at(), block.bytes()), (a, 112));
    for (at, len) in [(0, 113), (112, 1), (105, 8), (u64::MAX, 1), (u64::MAX, 0), (u64::MAX - 7, 8), (1 << 40, 1)] {
        assert!(matches!(tx.load(block, at, &mut vec![0; len]), Err(Error::Misuse(_))), "{len} bytes at {at}");
        assert!(matches!(tx.store(block, at, &vec![9; len]), Err(Error::Misuse(_))), "{len} bytes at {at}");
        let snapshot = pool.snapshot().unwrap();
        assert!(matches!(snapshot.load(block, at, &mut vec![0; len]), Err(Error::Misuse(_))), "{len} bytes at {at}");
    }
    for at in [105, 112, u64::MAX, u64::MAX - 7] {
        assert!(matches!(tx.load_word(block, at), Err(Error::Misuse(_))), "{at}");
        assert!(matches!(tx.store_word(block, at, 9), Err(Error::Misuse(_))), "{at}");
    }
    for at in [
        0,
        1,
        16,
        64,
        72,
        a - 16,
        a + 8,
        a + 16,
        a + 112,
        a + 128,
        HEAP_BYTES - 16,
        HEAP_BYTES,
        1 << 40,
        u64::MAX - 15,
        u64::MAX,
    ] {
        assert!(matches!(tx.block(at), Err(Error::Corrupt(_))), "{at}");
        assert!(matches!(tx.free(at), Err(Error::Corrupt(_))), "{at}");
        assert!(at == 0 || matches!(tx.set("b", b"", at), Err(Error::Corrupt(_))), "{at}");
    }
    tx.commit().unwrap();
    assert!(region.bytes() == bytes, "what was refused was done");
}

/// A handle is a place and a length: in another heap, or in an older state of it, that place may not exist.
#[test]
fn a_handle_of_a_longer_heap_is_refused() {
    let (_, longer) = in_memory(Options { heap_bytes: 1 << 20, ..OPTIONS });
    let at = put(&longer, "a", &[1; 500_000]);
    let foreign = longer.snapshot().unwrap().block(at).unwrap();
    let (region, pool) = in_memory(SMALL);
    put(&pool, "a", &[2; 100]);
    let bytes = region.bytes();
    let mut tx = pool.transaction().unwrap();
    for at in [4_096, 400_000, 499_992] {
        assert!(tx.load(foreign, at, &mut [0; 8]).is_err());
        assert!(tx.load_word(foreign, at).is_err());
        assert!(tx.store(foreign, at, &[9; 8]).is_err());
        assert!(tx.store_word(foreign, at, 9).is_err());
        assert!(pool.snapshot().unwrap().load(foreign, at, &mut [0; 8]).is_err());
    }
    drop(tx);
    assert!(region.bytes() == bytes);
    // A state from before the heap has grown. Another thread's: who holds one does not write.
    let before = thread::scope(|scope| scope.spawn(|| pool.snapshot().unwrap()).join().unwrap());
    let mut tx = pool.transaction().unwrap();
    let fresh = tx.create(&[3; 50_000]).and_then(|at| tx.block(at)).unwrap();
    assert!(before.block(fresh.at()).is_err());
    assert!(before.load(fresh, 40_000, &mut [0; 8]).is_err());
}

/// An empty range is inside every block, also in one that ends with the heap.
#[test]
fn a_block_that_ends_with_the_heap_is_like_any_other() {
    for bytes in [0, 16, 32] {
        let (region, pool) = in_memory(SMALL);
        let last = transact(&pool, |tx| {
            tx.allocate(4096 - 64 - 16 - 16 - bytes)?;
            tx.create(&vec![1; bytes as usize])
        });
        let last = last.unwrap();
        assert_eq!((last + bytes, stats(&pool).heap_bytes), (4096, 4096));
        let mut tx = pool.transaction().unwrap();
        let block = tx.block(last).unwrap();
        tx.load(block, bytes, &mut []).unwrap();
        tx.store(block, bytes, &[]).unwrap();
        tx.commit().unwrap();
        let snapshot = pool.snapshot().unwrap();
        snapshot.load(snapshot.block(last).unwrap(), bytes, &mut []).unwrap();
        reopened(&region, SMALL);
    }
}

/// A block that was freed must not be freed or named once more, also when the space around it was free and no trace of
/// its own was needed.
#[test]
fn a_freed_block_is_no_block() {
    for order in [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]] {
        let (region, pool) = in_memory(OPTIONS);
        let blocks = transact(&pool, |tx| (0..5).map(|_| tx.create(&[1; 64])).collect::<Result<Vec<_>>>()).unwrap();
        let freed = order.map(|index| blocks[index]);
        transact(&pool, |tx| freed.iter().try_for_each(|block| tx.free(*block))).unwrap();
        for block in freed {
            let mut tx = pool.transaction().unwrap();
            assert!(matches!(tx.free(block), Err(Error::Corrupt(_))), "{order:?}");
            assert!(matches!(tx.block(block), Err(Error::Corrupt(_))), "{order:?}");
            assert!(matches!(tx.set("a", b"", block), Err(Error::Corrupt(_))), "{order:?}");
        }
        assert_eq!(reopened(&region, OPTIONS).verify().unwrap().blocks.len(), 3);
    }
}

/// What no pool could be opened with is not committed: a name for a block that is not there, and two names for one.
#[test]
fn every_entry_names_a_block_of_its_own() {
    type Work<'a> = &'a dyn Fn(&mut Transaction<Recording>, u64) -> Result<()>;
    let wrong: [Work<'_>; 5] = [
        &|tx, a| tx.free(a),
        &|tx, a| tx.set("b", b"", a),
        &|tx, a| tx.remove("a").and_then(|_| tx.set("b", b"", a)).and_then(|()| tx.free(a)),
        &|tx, a| tx.set("b", b"", a).and_then(|()| tx.remove("a")).and_then(|_| tx.set("c", b"", a)),
        &|tx, a| tx.free(a).and_then(|()| tx.set("b", b"", 0)),
    ];
    for (number, work) in wrong.into_iter().enumerate() {
        let (region, pool) = in_memory(OPTIONS);
        let a = put(&pool, "a", &[1; 64]);
        let refused = transact(&pool, |tx| work(tx, a));
        assert!(matches!(refused, Err(Error::Misuse(_))), "transaction {number}: {refused:?}");
        assert_eq!(get(&reopened(&region, OPTIONS), "a").unwrap(), [1; 64], "transaction {number}");
        assert_eq!(stats(&pool).blocks, 1);
    }
    let right: [(&str, Work<'_>); 3] = [
        ("b", &|tx, a| tx.set("b", b"", a).and_then(|()| tx.remove("a").map(drop))),
        ("a", &|tx, a| tx.free(a).and_then(|()| tx.create(&[1; 64])).and_then(|fresh| tx.set("a", b"", fresh))),
        ("a", &|tx, a| {
            tx.remove("a")
                .and_then(|_| tx.set("b", b"", a))
                .and_then(|()| tx.set("b", b"", 0))
                .and_then(|()| tx.set("a", b"", a))
        }),
    ];
    for (number, (name, work)) in right.into_iter().enumerate() {
        let (region, pool) = in_memory(OPTIONS);
        let a = put(&pool, "a", &[1; 64]);
        transact(&pool, |tx| work(tx, a)).unwrap();
        assert_eq!(get(&reopened(&region, OPTIONS), name).unwrap(), [1; 64], "transaction {number}");
    }
}

#[test]
fn a_block_is_longer_than_the_heap_and_lies_in_all_its_segments() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let pool = Pool::open(&path, SMALL).unwrap();
    let bytes = |seed: usize, len: usize| (0..len).map(|at| (at * seed % 253) as u8).collect::<Vec<_>>();
    put(&pool, "a", &bytes(3, 3_000));
    put(&pool, "b", &bytes(5, 20_000));
    put(&pool, "c", &bytes(7, 200_000));
    let grown = stats(&pool);
    assert!(grown.heap_bytes >= 223_000 && grown.pool_bytes >= 2 * grown.heap_bytes, "{grown:?}");
    let c = pool.entry("c").unwrap().block;
    transact(&pool, |tx| tx.block(c).and_then(|block| tx.store(block, 100, &bytes(11, 150_000)))).unwrap();
    let mut aborted = pool.transaction().unwrap();
    aborted.block(c).and_then(|block| aborted.store(block, 0, &[1; 200_000])).unwrap();
    drop(aborted);
    drop(pool);
    let pool = Pool::open(&path, SMALL).unwrap();
    assert_eq!(stats(&pool), Stats { commits: grown.commits + 1, ..grown });
    assert!(get(&pool, "a").unwrap()[..3_000] == bytes(3, 3_000));
    assert!(get(&pool, "b").unwrap() == bytes(5, 20_000));
    let c = get(&pool, "c").unwrap();
    assert!(c[..100] == bytes(7, 200_000)[..100] && c[100..150_100] == bytes(11, 150_000));
    assert!(c[150_100..] == bytes(7, 200_000)[150_100..]);
    assert_eq!(pool.verify().unwrap().problems, [""; 0]);
}

/// A transaction that is rolled back leaves the heap as long as it has made it, and nothing else.
#[test]
fn a_heap_that_grew_for_a_transaction_that_was_rolled_back_stays_long() {
    let (region, pool) = in_memory(SMALL);
    put(&pool, "a", &[1; 500]);
    let before = stats(&pool);
    for _ in 0..3 {
        let mut tx = pool.transaction().unwrap();
        tx.create(&[2; 20_000]).unwrap();
        drop(tx);
        let after = stats(&pool);
        assert!(after.heap_bytes > 20_000);
        let grown = after.heap_bytes - before.heap_bytes;
        let heap_free_bytes = before.heap_free_bytes + grown;
        let Stats { heap_bytes, pool_bytes, free_bytes, .. } = after;
        assert_eq!(after, Stats { heap_bytes, pool_bytes, free_bytes, heap_free_bytes, ..before });
        assert_eq!(stats(&reopened(&region, SMALL)), after);
    }
    let grown = stats(&pool);
    put(&pool, "b", &[3; 20_000]);
    assert_eq!(stats(&pool).pool_bytes, grown.pool_bytes, "the heap grew once more");
    assert_eq!(get(&reopened(&region, SMALL), "b").unwrap(), [3; 20_000]);
}

/// Fills the heap with blocks until there is no room, and checks that all that was there is there still.
fn fill<R: Region>(pool: &Arc<Pool<R>>, bytes: usize) -> (Vec<u64>, Error) {
    let mut blocks = Vec::new();
    loop {
        match transact(pool, |tx| tx.create(&vec![blocks.len() as u8; bytes])) {
            Ok(block) => blocks.push(block),
            Err(error) => return (blocks, error),
        }
    }
}

fn check_filled<R: Region>(pool: &Arc<Pool<R>>, blocks: &[u64]) {
    let report = pool.verify().unwrap();
    assert_eq!((report.problems, report.blocks.len()), (vec![], blocks.len()));
    let snapshot = pool.snapshot().unwrap();
    for (number, block) in blocks.iter().enumerate() {
        let block = snapshot.block(*block).unwrap();
        let mut found = vec![0; block.bytes() as usize];
        snapshot.load(block, 0, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == number as u8), "block {number}");
    }
}

#[test]
fn the_heap_grows_as_far_as_the_pool_may() {
    let max_bytes = 600_000;
    let options = Options { max_bytes: Some(max_bytes), ..SMALL };
    let (region, pool) = in_memory(options);
    let (mut blocks, full) = fill(&pool, 1_008);
    assert!(matches!(full, Error::Full { .. }), "{full}");
    let before = stats(&pool);
    assert!(before.pool_bytes <= max_bytes && before.free_bytes < 2 * 4096, "{before:?}");
    assert!(blocks.len() as u64 * 1_024 + 1_024 > before.heap_bytes - 64, "{} blocks in {before:?}", blocks.len());
    assert!(region.len() <= max_bytes);
    check_filled(&pool, &blocks);
    check_filled(&reopened(&region, options), &blocks);
    // What fits still does, and what was freed is there again.
    let last = blocks.pop().unwrap();
    transact(&pool, |tx| tx.free(last)).unwrap();
    let again = transact(&pool, |tx| tx.create(&[blocks.len() as u8; 1_008])).unwrap();
    blocks.push(again);
    assert_eq!(Stats { commits: before.commits, ..stats(&pool) }, before);
    // The same pool, opened with more room.
    let larger = Pool::over(Recording::holding(&region.bytes()), SMALL).unwrap();
    blocks.push(transact(&larger, |tx| tx.create(&[blocks.len() as u8; 100_000])).unwrap());
    check_filled(&larger, &blocks);
}

/// Where the pool cannot double its heap it grows by what is needed, and then the segments are used up before the space.
#[test]
fn a_heap_of_very_many_segments_says_so() {
    let heap_bytes = 1 << 18;
    let options = Options { max_bytes: Some(2 * heap_bytes + 3 * 4096 + 60 * 8192), heap_bytes, ..OPTIONS };
    let (region, pool) = in_memory(options);
    let (blocks, full) = fill(&pool, 4_096 - 16);
    assert!(matches!(full, Error::Full { what: "the pool's heap", .. }), "{full}");
    assert!(stats(&pool).free_bytes + options.max_bytes.unwrap() - stats(&pool).pool_bytes > 8192);
    check_filled(&pool, &blocks);
    check_filled(&reopened(&region, options), &blocks);
}

#[test]
fn impossible_sizes_are_refused() {
    let folder = Scratch::new();
    let pool = Pool::open(&folder.path("a.pool"), OPTIONS).unwrap();
    put(&pool, "a", &[1; 16]);
    let before = stats(&pool);
    let mut tx = pool.transaction().unwrap();
    for bytes in [1 << 40, 1 << 62, 1 << 63, u64::MAX - 8191, u64::MAX - 100, u64::MAX - 16, u64::MAX] {
        let refused = tx.allocate(bytes);
        assert!(matches!(refused, Err(Error::Full { .. } | Error::Misuse(_))), "{bytes}: {refused:?}");
    }
    tx.set("b", b"", 0).unwrap();
    tx.commit().unwrap();
    assert_eq!(stats(&pool).pool_bytes, before.pool_bytes);
    assert_eq!((get(&pool, "a").unwrap(), pool.entries().len()), (vec![1; 16], 2));
}

/// An operation that finds no room has done nothing: the transaction may go on and commit the rest.
#[test]
fn a_transaction_goes_on_after_it_found_no_room() {
    let options = Options { max_bytes: Some(5 * 4096), ..SMALL };
    let (region, pool) = in_memory(options);
    let a = put(&pool, "a", &[1; 64]);
    transact(&pool, |tx| tx.set("meta", b"old", 0)).unwrap();
    let mut tx = pool.transaction().unwrap();
    assert!(matches!(tx.create(&[2; 5_000]), Err(Error::Full { .. })));
    assert!(matches!(tx.set("meta", &[2; 5_000], 0), Err(Error::Full { .. })));
    assert!(matches!(tx.set("a", &[2; 5_000], a), Err(Error::Full { .. })));
    assert_eq!((&tx.entry("meta").unwrap().meta[..], tx.entry("a").unwrap().block), (&b"old"[..], a));
    tx.set("b", b"", 0).unwrap();
    tx.commit().unwrap();
    for pool in [&pool, &reopened(&region, options)] {
        let entries = pool.entries();
        assert_eq!(entries.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), ["a", "b", "meta"]);
        assert_eq!((&entries[2].meta[..], get(pool, "a").unwrap()), (&b"old"[..], vec![1; 64]));
        assert_eq!(pool.verify().unwrap().problems, [""; 0]);
    }
    transact(&pool, |tx| tx.remove("meta").and_then(|_| tx.remove("a")).map(drop)).unwrap();
    assert_eq!(reopened(&region, options).entries().len(), 1);
}

/// What a failing medium has durably is the state before, until the third fence has worked, and the state after from then
/// on; in the caches of a machine that goes on it may be there one fence earlier.
#[test]
fn a_commit_on_a_failing_medium_is_there_whole_or_not_at_all() {
    for working in 0..4 {
        let (region, pool) = in_memory(OPTIONS);
        let a = put(&pool, "a", &[1; 500]);
        put(&pool, "b", &[2; 64]);
        region.fail_after(Some(working));
        let mut tx = pool.transaction().unwrap();
        let stored = tx.block(a).and_then(|block| tx.store(block, 0, &[9; 500]));
        assert_eq!(stored.is_err(), working == 0);
        if working > 0 {
            tx.remove("b").unwrap();
            assert!(matches!(tx.commit(), Err(Error::Io { .. })), "{working} fences work");
        } else {
            drop(tx);
        }
        region.fail_after(None);
        assert!(matches!(pool.transaction().err(), Some(Error::Misuse(_))), "{working} fences work");
        assert!(matches!(pool.snapshot().err(), Some(Error::Misuse(_))), "{working} fences work");
        assert!(matches!(pool.reserve(&[1]).err(), Some(Error::Misuse(_))), "{working} fences work");
        assert!(matches!(pool.verify(), Err(Error::Misuse(_))), "{working} fences work");
        assert!(matches!(pool.stats(), Err(Error::Misuse(_))), "{working} fences work");
        for (bytes, committed) in [(region.bytes(), working > 1), (region.durable(), working > 2)] {
            let again = reopened(&Recording::holding(&bytes), OPTIONS);
            let expected = if committed { (vec![9; 500], 1) } else { (vec![1; 500], 2) };
            assert_eq!(
                (get(&again, "a").unwrap()[..500].to_vec(), again.entries().len()),
                expected,
                "{working} fences work"
            );
            put(&again, "c", &[3; 100]);
        }
    }
}

#[test]
fn a_heap_that_grows_on_a_failing_medium_loses_nothing() {
    for working in 0..6 {
        let (region, pool) = in_memory(SMALL);
        put(&pool, "a", &[1; 500]);
        region.fail_after(Some(working));
        let grown = transact(&pool, |tx| tx.create(&[2; 6_000]));
        assert!(matches!(grown, Err(Error::Io { .. })), "{working} fences work: {grown:?}");
        region.fail_after(None);
        assert!(matches!(pool.transaction().err(), Some(Error::Misuse(_))), "{working} fences work");
        for bytes in [region.bytes(), region.durable()] {
            let again = reopened(&Recording::holding(&bytes), SMALL);
            assert_eq!((&get(&again, "a").unwrap()[..500], stats(&again).blocks), (&[1; 500][..], 1));
            put(&again, "c", &[3; 6_000]);
        }
    }
}

/// After an I/O error nobody knows what is durable, and asking once more may be answered with a wrong yes: a transaction
/// that has met one is not reported as committed.
#[test]
fn a_transaction_that_met_an_error_of_the_medium_is_never_committed() {
    for fences in 0..12 {
        let region = Sparse::default();
        let pool = Pool::over(region.clone(), SMALL).unwrap();
        put(&pool, "a", &[1; 500]);
        region.fail_once_after(fences);
        let mut tx = pool.transaction().unwrap();
        let mut failed = false;
        for bytes in [100, 6_000, 100_000, 100] {
            failed |= matches!(tx.create(&vec![2; bytes]), Err(Error::Io { .. }));
        }
        let committed = tx.commit();
        assert!(
            committed.is_err(),
            "the error of fence {fences} went unseen, or was forgotten (was it seen? {failed})"
        );
        assert!(matches!(pool.transaction().err(), Some(Error::Misuse(_))), "after fence {fences}");
        drop(pool);
        let again = Pool::over(region, SMALL).unwrap();
        assert_eq!(again.verify().unwrap().problems, [""; 0]);
        assert_eq!(get(&again, "a").unwrap()[..500], [1; 500]);
    }
}

/// Whoever waited for the transaction that failed finds a pool that may not be used, at whatever fence it failed.
#[test]
fn who_waited_for_a_transaction_that_failed_is_refused() {
    for fences in 1..4 {
        let region = Sparse::default();
        let pool = Pool::over(region.clone(), OPTIONS).unwrap();
        put(&pool, "a", &[1; 500]);
        let mut tx = pool.transaction().unwrap();
        region.fail_once_after(fences);
        tx.set("b", b"", 0).unwrap();
        std::thread::scope(|scope| {
            let waiting = [scope.spawn(|| pool.transaction().err()), scope.spawn(|| pool.verify().err())];
            // Long enough for both to come to wait; a thread that comes later is refused anyway.
            std::thread::sleep(Duration::from_millis(50));
            assert!(tx.commit().is_err());
            for refused in waiting.map(|thread| thread.join().unwrap()) {
                let told = refused.as_ref().is_some_and(|error| error.to_string().contains("failed"));
                assert!(told, "after fence {fences}: {refused:?}");
            }
        });
    }
}

/// A small store in a large heap costs its own lines and the header's, whatever lies around it.
#[test]
fn a_store_costs_what_it_touches() {
    let region = Sparse::default();
    let pool = Pool::over(region.clone(), Options { heap_bytes: 64 << 20, ..OPTIONS }).unwrap();
    let large = transact(&pool, |tx| tx.allocate(60 << 20)).unwrap();
    let small = transact(&pool, |tx| (0..2_000).map(|_| tx.create(&[1; 40])).collect::<Result<Vec<_>>>()).unwrap();
    for (at, bytes) in [(30 << 20, 8), (48, 64), (40, 64), ((60 << 20) - 8, 8), (1 << 20, 4096)] {
        let counts = region.count(|| {
            transact(&pool, |tx| tx.block(large).and_then(|block| tx.store(block, at, &vec![7; bytes]))).unwrap();
        });
        // The lines that were stored to, and the one of the header that counts the commits; and the state, twice.
        let lines = (large + at + bytes as u64 - 1) / 64 - (large + at) / 64 + 2;
        assert_eq!((counts.copied, counts.written_back), (64 * lines, 64 * lines + 2 * 8), "{bytes} bytes at {at}");
        assert!(counts.stored <= bytes as u64 + 64 && counts.loaded <= 200 && counts.fences == 4, "{counts:?}");
    }
    let aborted = region.count(|| {
        let mut tx = pool.transaction().unwrap();
        let block = tx.block(large).unwrap();
        tx.store(block, 5 << 20, &[7; 8]).unwrap();
    });
    assert!(aborted.copied == 64 && aborted.fences == 2 && aborted.loaded <= 200, "{aborted:?}");
    // Blocks are taken and given back in the middle of two thousand others.
    transact(&pool, |tx| small.iter().step_by(2).try_for_each(|block| tx.free(*block))).unwrap();
    let counts = region.count(|| {
        transact(&pool, |tx| {
            let block = tx.create(&[2; 30])?;
            tx.set("a", b"meta", block)?;
            tx.free(small[1_001])
        })
        .unwrap();
    });
    assert!(counts.copied <= 1_024 && counts.written_back <= 1_024 + 64 && counts.loaded <= 500, "{counts:?}");
}

/// The child inherits the transaction, its locks and the mapping; dropping it there must not touch what the parent has.
#[test]
fn a_forked_child_that_drops_a_transaction_changes_nothing() {
    let folder = Scratch::new();
    let pool = Pool::open(&folder.path("a.pool"), OPTIONS).unwrap();
    let a = put(&pool, "a", &[1; 500]);
    for begun in [true, false] {
        let mut tx = pool.transaction().unwrap();
        let block = tx.block(a).unwrap();
        if begun {
            tx.store(block, 0, &[2; 250]).unwrap();
            tx.set("b", b"", 0).unwrap();
        }
        let inherited = Arc::new(Mutex::new(Some(tx)));
        let mut child = Command::new("true");
        let in_child = inherited.clone();
        // SAFETY: between fork and exec the child frees memory and unlocks what it holds; the C library allows that also
        // when other threads run.
        unsafe {
            child.pre_exec(move || {
                drop(in_child.lock().unwrap().take());
                Ok(())
            });
        }
        assert!(child.status().unwrap().success());
        let mut tx = inherited.lock().unwrap().take().unwrap();
        tx.store(block, 250, &[3; 250]).unwrap();
        tx.commit().unwrap();
        let expected = if begun { 2 } else { 1 };
        let found = get(&pool, "a").unwrap();
        assert!(found[..250] == [expected; 250] && found[250..500] == [3; 250], "{begun}");
        assert_eq!(pool.verify().unwrap().problems, [""; 0]);
        transact(&pool, |tx| tx.store(block, 0, &[1; 500])).unwrap();
    }
}

/// A child that has inherited a transaction shares the parent's memory: it must not write a byte of it.
#[test]
fn a_forked_child_that_goes_on_with_a_transaction_is_refused() {
    let folder = Scratch::new();
    let pool = Pool::open(&folder.path("a.pool"), OPTIONS).unwrap();
    let a = put(&pool, "a", &[1; 500]);
    let mut tx = pool.transaction().unwrap();
    let block = tx.block(a).unwrap();
    tx.store(block, 0, &[2; 250]).unwrap();
    let inherited = Arc::new(Mutex::new(Some(tx)));
    let mut child = Command::new("true");
    let (in_child, theirs) = (inherited.clone(), pool.clone());
    // SAFETY: as above; the error that comes back is the child's.
    unsafe {
        child.pre_exec(move || {
            let mut tx = in_child.lock().unwrap().take().unwrap();
            let stored = [tx.store(block, 0, &[9; 500]), tx.store_word(block, 8, 9), tx.set("b", b"", 0), tx.free(a)];
            let refused = stored.iter().all(Result::is_err)
                && tx.remove("a").is_err()
                && tx.create(&[9; 64]).is_err()
                && tx.commit().is_err()
                && theirs.transaction().is_err()
                && theirs.snapshot().is_err();
            if refused { Ok(()) } else { Err(std::io::Error::from_raw_os_error(1)) }
        });
    }
    assert!(child.status().is_ok(), "the child was not refused");
    let mut tx = inherited.lock().unwrap().take().unwrap();
    tx.store(block, 250, &[3; 250]).unwrap();
    tx.commit().unwrap();
    let found = get(&pool, "a").unwrap();
    assert!(found[..250] == [2; 250] && found[250..500] == [3; 250]);
    assert_eq!((pool.entries().len(), pool.verify().unwrap().problems), (1, vec![]));
}

/// When the fourth fence fails, the entry is durable already: what it owns must not be given to another.
#[test]
fn after_a_fence_that_failed_nothing_is_reserved_read_or_written() {
    for fences in 0..4 {
        let (region, pool) = in_memory(OPTIONS);
        let put = |byte: u8| {
            let reserved = pool.reserve(&[4096]).unwrap();
            reserved.write(0, 0, &[byte; 4096]).unwrap();
            reserved.fence();
            (Entry { name: "a".into(), meta: vec![], block: 0, extents: reserved.extents() }, reserved)
        };
        let (entry, reserved) = put(1);
        pool.commit(&entry, reserved).unwrap();
        let (entry, reserved) = put(2);
        region.fail_after(Some(fences));
        assert!(pool.commit(&entry, reserved).is_err());
        region.fail_after(None);
        if fences > 0 {
            assert!(pool.reserve(&[4096]).is_err() && pool.snapshot().is_err() && pool.transaction().is_err());
        }
        let again = Pool::over(Recording::holding(&region.bytes()), OPTIONS).unwrap();
        let extent = again.entry("a").unwrap().extents[0];
        let mut found = [0; 4096];
        again.read(extent, 0, &mut found).unwrap();
        assert!(found == [found[0]; 4096] && found[0] == if extent == entry.extents[0] { 2 } else { 1 });
    }
}

/// A changed pool may hold bytes that look like a block inside of another one.
#[test]
fn what_only_looks_like_a_block_is_none() {
    let (_, pool) = in_memory(OPTIONS);
    let mut header = [0; 32];
    header[0] = 16;
    header[8..16].copy_from_slice(&(0x0cc0_0cc0_0cc0_0cc0_u64 ^ 16).to_le_bytes());
    let at = put(&pool, "a", &header);
    let (inside, mut tx) = (at + 16, pool.transaction().unwrap());
    assert!(tx.block(at).is_ok() && tx.block(inside).is_err() && tx.free(inside).is_err());
    assert!(tx.set("b", b"", inside).is_err());
    drop(tx);
    let snapshot = pool.snapshot().unwrap();
    assert!(snapshot.block(at).is_ok() && snapshot.block(inside).is_err());
}

#[test]
fn blocks_are_known_while_they_are_taken_and_after_they_are_given_back() {
    let (_, pool) = in_memory(OPTIONS);
    let old = put(&pool, "old", &[1; 32]);
    let mut tx = pool.transaction().unwrap();
    tx.remove("old").unwrap();
    tx.free(old).unwrap();
    assert!(tx.block(old).is_err() && tx.free(old).is_err());
    let new = tx.create(&[2; 32]).unwrap();
    assert_eq!(new, old, "the same place");
    assert!(tx.block(new).is_ok());
    tx.set("new", b"", new).unwrap();
    assert!(pool.snapshot().unwrap().block(old).is_ok(), "it is there still for readers");
    tx.commit().unwrap();
    assert!(pool.snapshot().unwrap().block(new).is_ok());
    let mut tx = pool.transaction().unwrap();
    tx.remove("new").unwrap();
    tx.free(new).unwrap();
    drop(tx);
    assert!(pool.transaction().unwrap().block(new).is_ok(), "it was rolled back");
    transact(&pool, |tx| {
        tx.remove("new")?;
        tx.free(new)
    })
    .unwrap();
    assert!(pool.snapshot().unwrap().block(new).is_err() && pool.transaction().unwrap().block(new).is_err());
    assert!(pool.verify().unwrap().problems.is_empty());
}

#[test]
fn a_thread_that_reads_does_not_write() {
    let (_, pool) = in_memory(OPTIONS);
    let snapshots = [pool.snapshot().unwrap(), pool.snapshot().unwrap()];
    for snapshot in snapshots {
        let refused = pool.transaction().err().unwrap().to_string();
        assert!(refused.contains("this thread is reading the pool"), "{refused}");
        thread::scope(|scope| scope.spawn(|| drop(pool.transaction().unwrap())).join().unwrap());
        // It may be let go of elsewhere.
        thread::spawn(|| drop(snapshot)).join().unwrap();
    }
    put(&pool, "a", &[1]);
}

/// What is free at the end of the pool and what it may grow by are one.
#[test]
fn a_pool_grows_by_what_is_missing_at_its_end() {
    let empty = in_memory(OPTIONS).1.bytes().0;
    let (_, pool) = in_memory(Options { max_bytes: Some(empty + (64 << 10)), ..OPTIONS });
    drop(pool.reserve(&[40 << 10]).unwrap());
    assert!(pool.reserve(&[64 << 10]).is_ok());
    assert!(matches!(pool.reserve(&[(64 << 10) + 1]), Err(Error::Full { needed_bytes: 69_632, .. })));
}
