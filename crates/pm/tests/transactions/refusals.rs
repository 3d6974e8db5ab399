//! Names, blocks and ranges that are refused.

use super::*;

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
