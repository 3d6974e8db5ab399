//! A medium that fails in the middle of a transaction.

use super::*;

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
