//! Crashes at every store and fence of every operation: what is opened afterwards is the state before or after it.

mod recording;

use std::collections::BTreeMap;
use std::sync::Arc;

use plinius_pm::{Entry, Options, Pool, Transaction};
use recording::{Image, Recording};

const OPTIONS: Options = Options { max_bytes: None, heap_bytes: 4096, pool_id: [7; 16], flush: None, require: None };

/// Everything that a pool holds: each entry's public bytes, the bytes of its extents, and those of its block.
type Contents = BTreeMap<String, (Vec<u8>, Vec<Vec<u8>>, Vec<u8>)>;
/// Something that a writer does.
type Step<'a> = &'a dyn Fn(&Arc<Pool<Recording>>);

fn open(bytes: &[u8]) -> Arc<Pool<Recording>> {
    open_on(Recording::holding(bytes))
}

fn open_on(region: Recording) -> Arc<Pool<Recording>> {
    Pool::over(region, OPTIONS).expect("a pool that a crash left opens")
}

fn contents(pool: &Arc<Pool<Recording>>) -> Contents {
    let report = pool.verify().expect("the pool can be looked over");
    assert_eq!(report.problems, [""; 0]);
    let snapshot = pool.snapshot().expect("the pool can be read");
    let mut all = Contents::new();
    let mut named = Vec::new();
    for entry in pool.entries() {
        let read = |extent: &plinius_pm::Extent| {
            let mut bytes = vec![0; extent.bytes as usize];
            pool.read(*extent, 0, &mut bytes).expect("an extent of the catalog can be read");
            bytes
        };
        let mut held = Vec::new();
        if entry.block != 0 {
            named.push(entry.block);
            let block = snapshot.block(entry.block).expect("an entry names a block");
            held.resize(block.bytes() as usize, 0);
            snapshot.load(block, 0, &mut held).expect("a block can be read");
        }
        all.insert(entry.name, (entry.meta, entry.extents.iter().map(read).collect(), held));
    }
    named.sort_unstable();
    assert_eq!(report.blocks, named, "a block is nobody's");
    all
}

/// Puts an entry with one extent of each size, every byte of it `fill`.
fn put(pool: &Arc<Pool<Recording>>, name: &str, fill: u8, sizes: &[u64]) {
    let reserved = pool.reserve(sizes).unwrap();
    for (index, &bytes) in sizes.iter().enumerate() {
        reserved.write(index, 0, &vec![fill; bytes as usize]).unwrap();
    }
    reserved.fence();
    let entry = Entry { name: name.into(), meta: vec![fill; 40], block: 0, extents: reserved.extents() };
    pool.commit(&entry, reserved).unwrap();
}

/// Runs steps one after the other on a recorded medium. Each image of a crash must hold what there was after the last
/// finished step or after the running one.
fn explore(start: &[u8], steps: &[Step<'_>]) -> Vec<Image> {
    let region = Recording::holding(start);
    region.record();
    let pool = open_on(region.clone());
    let mut states = vec![contents(&pool)];
    region.mark(1);
    for (done, step) in steps.iter().enumerate() {
        step(&pool);
        states.push(contents(&pool));
        region.mark(done + 2);
    }
    let images = region.images();
    for (number, image) in images.iter().enumerate() {
        let found = contents(&open(&image.bytes));
        let allowed = &states[image.mark.saturating_sub(1)..states.len().min(image.mark + 1)];
        assert!(allowed.contains(&found), "image {number} of {}, at step {}: {found:?}", images.len(), image.mark);
    }
    images
}

fn created() -> Vec<u8> {
    let region = Recording::default();
    drop(open_on(region.clone()));
    region.bytes()
}

/// Every kind of step: first, replaced by larger (the pool grows), by smaller, a second entry, replaced again.
const STEPS: [Step<'_>; 5] = [
    &|pool| put(pool, "a", 1, &[5000]),
    &|pool| put(pool, "a", 2, &[70_000, 100]),
    &|pool| put(pool, "a", 3, &[64]),
    &|pool| put(pool, "b", 4, &[5000, 5000]),
    &|pool| put(pool, "a", 5, &[6000]),
];

/// Sets an entry to a new block of these bytes, and frees the one that it had.
fn set(tx: &mut Transaction<Recording>, name: &str, bytes: &[u8]) {
    let old = tx.entry(name).map_or(0, |entry| entry.block);
    let block = tx.create(bytes).unwrap();
    tx.set(name, &bytes[..1], block).unwrap();
    if old != 0 {
        tx.free(old).unwrap();
    }
}

fn fill(tx: &mut Transaction<Recording>, name: &str, at: u64, bytes: &[u8]) {
    let block = tx.block(tx.entry(name).unwrap().block).unwrap();
    tx.store(block, at, bytes).unwrap();
}

fn transact(pool: &Arc<Pool<Recording>>, work: impl Fn(&mut Transaction<Recording>)) {
    let mut tx = pool.transaction().unwrap();
    work(&mut tx);
    tx.commit().unwrap();
}

/// Every kind of transaction: blocks that are made, stored to, replaced and freed, several at once, one that is rolled
/// back, one that makes the heap grow, one that makes it grow and is rolled back, and what else runs between.
const TRANSACTIONS: [Step<'_>; 9] = [
    &|pool| transact(pool, |tx| set(tx, "a", &[1; 200])),
    &|pool| {
        transact(pool, |tx| {
            set(tx, "b", &[2; 600]);
            fill(tx, "a", 30, &[3; 100]);
        });
    },
    &|pool| {
        transact(pool, |tx| {
            set(tx, "a", &[4; 40]);
            fill(tx, "b", 0, &[5; 600]);
        });
    },
    &|pool| {
        let mut tx = pool.transaction().unwrap();
        set(&mut tx, "a", &[6; 300]);
        fill(&mut tx, "b", 10, &[6; 300]);
        tx.remove("b").unwrap();
    },
    &|pool| transact(pool, |tx| set(tx, "c", &[7; 5_000])),
    &|pool| put(pool, "d", 8, &[5_000]),
    &|pool| {
        transact(pool, |tx| {
            fill(tx, "c", 3_000, &[9; 2_000]);
            let block = tx.remove("b").unwrap().unwrap().block;
            tx.free(block).unwrap();
        });
    },
    &|pool| {
        let mut tx = pool.transaction().unwrap();
        tx.allocate(9_000).unwrap();
    },
    &|pool| transact(pool, |tx| set(tx, "c", &[10; 20])),
];

#[test]
fn a_creation_that_is_cut_begins_again() {
    let images = explore(&[], &[]);
    assert!(images.len() > 20, "{} images", images.len());
}

#[test]
fn a_commit_that_is_cut_is_there_whole_or_not_at_all() {
    let images = explore(&created(), &STEPS);
    assert!(images.len() > 300, "{} images", images.len());
}

#[test]
fn a_transaction_that_is_cut_is_there_whole_or_not_at_all() {
    let images = explore(&created(), &TRANSACTIONS);
    assert!(images.len() > 400, "{} images", images.len());
}

/// Recovers from each image on a recorded medium: what a further crash leaves must be recovered to the same.
fn crash_again(images: &[Image]) -> usize {
    let mut cut = 0;
    for image in images {
        let region = Recording::holding(&image.bytes);
        region.record();
        let expected = contents(&open_on(region.clone()));
        for again in region.images() {
            assert_eq!(contents(&open(&again.bytes)), expected);
            cut += 1;
        }
    }
    cut
}

#[test]
fn a_crash_inside_recovery_changes_nothing() {
    let cut = crash_again(&explore(&created(), &STEPS[..2]));
    assert!(cut > 1000, "{cut} images");
}

#[test]
fn a_crash_inside_the_recovery_of_a_heap_of_two_segments_changes_nothing() {
    let images = explore(&created(), &[&|pool| transact(pool, |tx| set(tx, "c", &[7; 4_100]))]);
    let cut = crash_again(&explore(&images[images.len() - 1].bytes, &TRANSACTIONS[..2]));
    assert!(cut > 1000, "{cut} images");
}

#[test]
fn a_pool_whose_creation_was_cut_survives_a_second_crash() {
    for image in explore(&[], &[]).iter().step_by(5) {
        // The first step does not grow the pool, and so does not write the superblock.
        explore(&image.bytes, &[&|pool| put(pool, "a", 1, &[]), &|pool| put(pool, "b", 2, &[5000])]);
    }
}

#[test]
fn a_pool_whose_growth_was_cut_survives_a_second_crash() {
    let grown = explore(&created(), &STEPS[..2]);
    for image in grown.iter().filter(|image| image.mark == 2).step_by(7) {
        // The first step fits into what the pool has grown by, and so does not write the superblock.
        explore(&image.bytes, &[&|pool| put(pool, "c", 8, &[60_000]), &|pool| put(pool, "a", 9, &[400_000])]);
    }
}

#[test]
fn a_pool_whose_heap_was_growing_survives_a_second_crash() {
    let grown = explore(&created(), &TRANSACTIONS[..5]);
    for image in grown.iter().filter(|image| image.mark == 5).step_by(7) {
        explore(
            &image.bytes,
            &[&|pool| put(pool, "e", 11, &[100]), &|pool| transact(pool, |tx| set(tx, "c", &[12; 6_000]))],
        );
    }
}

#[test]
fn what_was_committed_survives_a_power_failure_right_afterwards() {
    for steps in [&STEPS[..], &TRANSACTIONS] {
        let region = Recording::holding(&created());
        let pool = open_on(region.clone());
        for (number, step) in steps.iter().enumerate() {
            step(&pool);
            assert_eq!(contents(&open(&region.durable())), contents(&pool), "step {number}");
        }
    }
}
