//! What transactions leave: what was committed, nothing else, wherever it lies and whatever comes after it.

use super::*;

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
