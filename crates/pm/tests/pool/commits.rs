//! What a commit costs, and when it is refused: there is no room, the medium failed, somebody else changed the pool.

use super::*;

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
