//! Many writing threads: a plain lock against flat combining, on the public API. `make bench-writers`.
//!
//! Every operation adds one to a word of its thread. Under the plain lock each is a transaction of its own. With flat
//! combining a thread publishes its operation; whoever gets the lock runs all that are published in one transaction.
//! Arguments: a folder for the pool (`/dev/shm`), and the seconds of each measurement (0.5).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use plinius_pm::{Block, Options, Pool, Transaction};

const THREADS: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 5;
/// Each thread's word has a cache line of its own.
const STRIDE: u64 = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "/dev/shm".into());
    let seconds: f64 = arguments.next().map_or(0.5, |text| text.parse().expect("seconds are a number"));
    let path = Path::new(&folder).join(format!("plinius-writers-{}.pool", std::process::id()));
    let options = Options { max_bytes: None, heap_bytes: 1 << 16, pool_id: [1; 16], flush: None, require: None };
    let pool = Pool::open(&path, options).expect("a pool can be made in the folder");
    println!("{}, write-back {}", pool.medium(), pool.flush().name());
    println!("threads  plain lock   flat combining   (transactions' operations a second, medians of {ROUNDS})");
    for threads in THREADS {
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            found[0].push(operations(&pool, threads, seconds, plain_lock));
            found[1].push(operations(&pool, threads, seconds, flat_combining));
        }
        let [plain, combining] = found.map(|mut rates| {
            rates.sort_unstable_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        println!("{threads:7}  {plain:10.0}   {combining:14.0}   combining/plain {:.2}", combining / plain);
    }
    drop(pool);
    std::fs::remove_file(&path).expect("the pool can be removed");
}

/// What the threads share.
struct Work<'a> {
    pool: &'a Arc<Pool>,
    words: Block,
    running: AtomicBool,
    /// For each thread: how many operations it has published, and how many of them are durable.
    published: Vec<(AtomicU64, AtomicU64)>,
    combiner: Mutex<()>,
}

fn operations(pool: &Arc<Pool>, threads: usize, seconds: f64, run: fn(&Work<'_>, usize) -> u64) -> f64 {
    let mut tx = pool.transaction().expect("a transaction begins");
    let words = tx.allocate(STRIDE * threads as u64).and_then(|at| tx.block(at)).expect("the heap has room");
    tx.commit().expect("it commits");
    let published = (0..threads).map(|_| Default::default()).collect();
    let work = Work { pool, words, running: AtomicBool::new(true), published, combiner: Mutex::new(()) };
    let begun = Instant::now();
    let done: u64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn({
                    let work = &work;
                    move || run(work, thread)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        work.running.store(false, Ordering::Relaxed);
        running.into_iter().map(|thread| thread.join().expect("no thread fails")).sum()
    });
    let elapsed_s = begun.elapsed().as_secs_f64();
    let mut tx = pool.transaction().expect("a transaction begins");
    let counted: u64 = (0..threads as u64).map(|at| tx.load_word(words, at * STRIDE).expect("a word is read")).sum();
    assert_eq!(counted, done, "an update was lost");
    tx.free(words.at()).and_then(|()| tx.commit()).expect("the block is freed");
    done as f64 / elapsed_s
}

fn add_one(tx: &mut Transaction, words: Block, thread: usize) {
    let at = thread as u64 * STRIDE;
    let word = tx.load_word(words, at).expect("a word is read");
    tx.store_word(words, at, word + 1).expect("a word is stored");
}

fn plain_lock(work: &Work<'_>, thread: usize) -> u64 {
    let mut done = 0;
    while work.running.load(Ordering::Relaxed) {
        let mut tx = work.pool.transaction().expect("a transaction begins");
        add_one(&mut tx, work.words, thread);
        tx.commit().expect("it commits");
        done += 1;
    }
    done
}

fn flat_combining(work: &Work<'_>, thread: usize) -> u64 {
    let (published, durable) = &work.published[thread];
    while work.running.load(Ordering::Relaxed) {
        let wanted = published.fetch_add(1, Ordering::Release) + 1;
        while durable.load(Ordering::Acquire) < wanted {
            match work.combiner.try_lock() {
                Ok(_guard) => combine(work),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Poisoned(_)) => panic!("a combiner failed"),
            }
        }
    }
    durable.load(Ordering::Acquire)
}

/// Runs everything that is published in one transaction.
fn combine(work: &Work<'_>) {
    let pending: Vec<u64> = work.published.iter().map(|(published, _)| published.load(Ordering::Acquire)).collect();
    let mut tx = work.pool.transaction().expect("a transaction begins");
    for (thread, wanted) in pending.iter().enumerate() {
        if work.published[thread].1.load(Ordering::Relaxed) < *wanted {
            add_one(&mut tx, work.words, thread);
        }
    }
    tx.commit().expect("it commits");
    for (wanted, (_, durable)) in pending.iter().zip(&work.published) {
        durable.store(*wanted, Ordering::Release);
    }
}
