//! Transactions on the heap.

use super::{Shape, a_and_b, block_of, nothing, put, store, update};

/// More than the heap of a new pool has left.
const LARGE: u64 = 4000;

pub const SHAPES: &[Shape] = &[
    Shape {
        name: "update words of several lines",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            update(&pool, "a", &[(0, 5), (64, 6), (0, 7), (8, 8), (192, 9)])?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "update bytes across lines and words",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            let block = tx.block(block_of(&pool, "a"))?;
            tx.store(block, 13, &[9; 40])?;
            tx.store(block, 30, &[8; 5])?;
            tx.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "update three times",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            for round in 0..3 {
                update(&pool, "b", &[(0, round), (40, 7)])?;
                stage.report(&pool)?;
            }
            Ok(())
        },
        is_large: false,
    },
    Shape {
        name: "create a block and its entry",
        before: Some(nothing),
        program: |stage| {
            let pool = stage.open()?;
            put(&pool, "a", 8, 5)?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "allocate where a block was freed",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            tx.free(block_of(&pool, "b"))?;
            tx.set("b", &[3], 0)?;
            tx.commit()?;
            stage.report(&pool)?;
            let mut tx = pool.transaction()?;
            tx.allocate(16)?;
            tx.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "free two neighbours and the entries",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            for name in ["a", "b"] {
                tx.free(block_of(&pool, name))?;
                tx.remove(name)?;
            }
            tx.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "replace an entry by a longer one",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            tx.set("a", &[4; 20], block_of(&pool, "a"))?;
            tx.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "abort, then update",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            store(&mut tx, block_of(&pool, "a"), &[(0, 5), (64, 6), (8, 7)])?;
            tx.create(&[8; 16])?;
            drop(tx);
            stage.report(&pool)?;
            update(&pool, "a", &[(0, 9)])?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "abort what has not stored anything",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            drop(pool.transaction()?);
            pool.transaction()?.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "allocate more than the heap has, which grows",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            let block = tx.allocate(LARGE)?;
            // One word in each of the two segments.
            store(&mut tx, block, &[(0, 5), (LARGE - 8, 6)])?;
            tx.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "update and grow the heap, then abort, then update",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            store(&mut tx, block_of(&pool, "a"), &[(0, 5)])?;
            tx.allocate(LARGE)?;
            drop(tx);
            stage.report(&pool)?;
            update(&pool, "b", &[(0, 9)])?;
            stage.report(&pool)
        },
        is_large: false,
    },
];
