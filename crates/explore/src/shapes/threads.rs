//! What several threads do together. A fence orders what its own thread wrote.

use std::sync::Barrier;
use std::thread;

use plinius_pm::{Entry, Reserved, Transaction};

use super::{Done, Shape, Stage, a_and_b, block_of, nothing, store, update};
use crate::pool::Recorded;
use crate::record::Recorder;

/// Reserves two extents, lets `write` fill them, and commits their entry.
fn flip_written_by(stage: &Stage, write: fn(&Reserved<Recorder>)) -> Done {
    let pool = stage.open()?;
    let sizes = [16, 16];
    // The pool grows first, which is another shape.
    drop(pool.reserve(&sizes)?);
    stage.report(&pool)?;
    let reserved = pool.reserve(&sizes)?;
    write(&reserved);
    let entry = Entry { name: "m".into(), meta: Vec::new(), block: 0, extents: reserved.extents() };
    pool.commit(&entry, reserved)?;
    stage.report(&pool)
}

fn write(reserved: &Reserved<Recorder>, index: usize) {
    reserved.write(index, 0, &[index as u8 + 1; 16]).expect("it was reserved");
}

/// Runs a transaction's parts, each in a thread of its own, one after the other.
fn hand_over(pool: &Recorded, parts: [fn(&mut Transaction<Recorder>, u64) -> Done; 2]) -> Done {
    let mut tx = pool.transaction()?;
    let block = block_of(pool, "a");
    for part in parts {
        let moved = thread::scope(|scope| scope.spawn(move || part(&mut tx, block).map(|()| tx)).join());
        tx = moved.expect("no part panics")?;
    }
    tx.commit()
}

pub const SHAPES: &[Shape] = &[
    Shape {
        name: "flip what two workers wrote, one after the other",
        before: Some(nothing),
        program: |stage| {
            flip_written_by(stage, |reserved| {
                for index in [0, 1] {
                    let worker = || {
                        write(reserved, index);
                        reserved.fence();
                    };
                    thread::scope(|scope| drop(scope.spawn(worker)));
                }
            })
        },
        is_large: false,
    },
    Shape {
        name: "flip what two workers wrote at the same time",
        before: Some(nothing),
        program: |stage| {
            flip_written_by(stage, |reserved| {
                let turn = Barrier::new(2);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        write(reserved, 0);
                        turn.wait();
                        turn.wait();
                        reserved.fence();
                    });
                    scope.spawn(|| {
                        turn.wait();
                        write(reserved, 1);
                        reserved.fence();
                        turn.wait();
                    });
                });
            })
        },
        is_large: false,
    },
    Shape {
        name: "a transaction that goes from thread to thread",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            hand_over(
                &pool,
                [|tx, block| store(tx, block, &[(0, 5)]), |tx, block| store(tx, block, &[(64, 6), (8, 7)])],
            )?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "the pool grows in another thread during a transaction",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            let mut tx = pool.transaction()?;
            let block = block_of(&pool, "a");
            store(&mut tx, block, &[(0, 5)])?;
            thread::scope(|scope| scope.spawn(|| pool.reserve(&[100]).map(drop)).join()).expect("it does not panic")?;
            store(&mut tx, block, &[(64, 6)])?;
            tx.commit()?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "transactions of two threads in turn",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            for round in 0..3 {
                thread::scope(|scope| drop(scope.spawn(|| update(&pool, "b", &[(0, round)]))));
                stage.report(&pool)?;
                update(&pool, "a", &[(0, round)])?;
                stage.report(&pool)?;
            }
            Ok(())
        },
        is_large: false,
    },
];
