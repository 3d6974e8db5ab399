//! A heap that grows, and the room that it finds.

use super::*;

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

/// What is free at the end of the pool and what it may grow by are one.
#[test]
fn a_pool_grows_by_what_is_missing_at_its_end() {
    let empty = in_memory(OPTIONS).1.bytes().0;
    let (_, pool) = in_memory(Options { max_bytes: Some(empty + (64 << 10)), ..OPTIONS });
    drop(pool.reserve(&[40 << 10]).unwrap());
    assert!(pool.reserve(&[64 << 10]).is_ok());
    assert!(matches!(pool.reserve(&[(64 << 10) + 1]), Err(Error::Full { needed_bytes: 69_632, .. })));
}
