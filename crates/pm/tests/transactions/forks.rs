//! Transactions that a forked child inherits.

use super::*;

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
