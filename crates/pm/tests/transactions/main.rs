//! Transactions: what they see, what others see meanwhile, what is left when they end in each of their ways.

mod contents;
mod failures;
mod forks;
mod growth;
#[path = "../recording/mod.rs"]
mod recording;
mod refusals;
#[path = "../../../medium/tests/scratch/mod.rs"]
mod scratch;
#[path = "../sparse/mod.rs"]
mod sparse;
mod threads;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use plinius_pm::{Entry, Error, Options, Pool, Region, Result, Stats, Transaction};
use recording::Recording;
use scratch::Scratch;
use sparse::Sparse;

const HEAP_BYTES: u64 = 1 << 16;
const OPTIONS: Options =
    Options { max_bytes: None, heap_bytes: HEAP_BYTES, pool_id: [7; 16], flush: None, require: None };
const SMALL: Options = Options { heap_bytes: 4096, ..OPTIONS };
/// For what must not take for ever.
const PATIENCE: Duration = Duration::from_secs(300);

fn in_memory(options: Options) -> (Recording, Arc<Pool<Recording>>) {
    let region = Recording::default();
    (region.clone(), Pool::over(region, options).unwrap())
}

/// Runs a transaction to its end.
fn transact<R: Region, T>(pool: &Arc<Pool<R>>, work: impl FnOnce(&mut Transaction<R>) -> Result<T>) -> Result<T> {
    let mut tx = pool.transaction()?;
    let result = work(&mut tx)?;
    tx.commit()?;
    Ok(result)
}

/// Sets an entry to a new block of these bytes.
fn put<R: Region>(pool: &Arc<Pool<R>>, name: &str, bytes: &[u8]) -> u64 {
    transact(pool, |tx| tx.create(bytes).and_then(|block| tx.set(name, b"", block).map(|()| block))).unwrap()
}

/// The bytes of the block that an entry names.
fn get<R: Region>(pool: &Arc<Pool<R>>, name: &str) -> Option<Vec<u8>> {
    let snapshot = pool.snapshot().unwrap();
    let block = snapshot.block(snapshot.entry(name)?.block).unwrap();
    let mut bytes = vec![0; block.bytes() as usize];
    snapshot.load(block, 0, &mut bytes).unwrap();
    Some(bytes)
}

/// The pool as it would be opened after a crash of the process: everything in it is whole.
fn reopened(region: &Recording, options: Options) -> Arc<Pool<Recording>> {
    let pool = Pool::over(Recording::holding(&region.bytes()), options).unwrap();
    assert_eq!(pool.verify().unwrap().problems, [""; 0]);
    pool
}

fn stats<R: Region>(pool: &Arc<Pool<R>>) -> Stats {
    pool.stats().unwrap()
}
