//! Transactions and readers in several threads.

use super::*;

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
