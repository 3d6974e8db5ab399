//! Random programs on a pool, larger than the shapes, and a sample of the images that crashes of them leave.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use plinius_pm::{Entry, Error, Transaction};

use crate::choice::Chance;
use crate::explorer::{Recording, explore};
use crate::image::Pass;
use crate::medium::Kind;
use crate::plan::{Plan, Width};
use crate::pool::{Contents, PoolSubject, Recorded};
use crate::record::Recorder;
use crate::stage::{Done, Stage, pool_after, run};

/// What a program does before it is recorded, and then.
const STEPS_BEFORE: u64 = 12;
const STEPS: u64 = 6;

/// What was explored.
#[derive(Debug, Default)]
pub struct Progress {
    /// Programs.
    pub programs: u64,
    /// Different images.
    pub distinct: u64,
    /// The seed of a program that leaves something wrong, and the story of it.
    pub violation: Option<(u64, String)>,
}

impl Progress {
    /// All that matters, in one line.
    pub fn line(&self, took: Duration) -> String {
        let Self { programs, distinct, violation } = self;
        let (violations, took) = (u32::from(violation.is_some()), took.as_secs_f64());
        format!("{programs} random programs, {distinct} different images, {violations} violations, {took:.0} s")
    }
}

/// Explores programs of the seeds from `seed` on, on all cores, until there are `images` different images.
pub fn run_all(images: u64, seed: u64, tell: &(impl Fn(&Progress) + Sync)) -> Progress {
    let next = AtomicU64::new(seed);
    let ended = AtomicBool::new(false);
    let known = Mutex::new((HashSet::<u64, Pass>::default(), Progress::default()));
    let worker = || {
        while !ended.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let explored = explore_program(seed);
            let mut guard = known.lock().expect("no worker panics");
            let (hashes, progress) = &mut *guard;
            progress.programs += 1;
            match explored {
                // Half a hash tells 2^24 images apart well enough: one taken for another would only not be counted.
                Ok(found) => hashes.extend(found),
                Err(story) => progress.violation = Some((seed, story)),
            }
            progress.distinct = hashes.len() as u64;
            tell(progress);
            if progress.distinct >= images || progress.violation.is_some() {
                ended.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    known.into_inner().expect("no worker panics").1
}

/// Explores the program of a seed, and returns the hashes of its images.
pub fn explore_program(seed: u64) -> Result<Vec<u64>, String> {
    let program = Width { all: 64, samples: 256 };
    let recovery = Width { all: 4, samples: 2 };
    let kind = if seed.is_multiple_of(2) { Kind::Lines } else { Kind::File };
    let plan = Plan { program, recovery, most_crashes: 2, go_on_from: 1, seed, ..Plan::exhaustive(kind) };
    let report = explore(&PoolSubject, &plan, &record(seed)?);
    report.violation.map_or(Ok(()), Err)?;
    Ok(report.seen.into_keys().map(|hash| hash as u64).collect())
}

/// Runs the program of a seed.
fn record(seed: u64) -> Result<Recording<Contents>, String> {
    let mut chance = Chance::new(seed);
    let start = pool_after(|pool| (0..STEPS_BEFORE).try_for_each(|_| step(pool, &mut chance)));
    run(start.map_err(|error| error.to_string())?, None, |stage| program(stage, &mut chance))
}

fn program(stage: &Stage, chance: &mut Chance) -> Done {
    let mut pool = stage.open()?;
    for _ in 0..STEPS {
        step(&pool, chance)?;
        if chance.happens(32) {
            drop(pool);
            pool = stage.open()?;
        }
        stage.report(&pool)?;
    }
    Ok(())
}

fn step(pool: &Recorded, chance: &mut Chance) -> Done {
    if chance.happens(96) { flip(pool, chance) } else { transaction(pool, chance) }
}

/// Replaces an entry that owns extents; workers write some of these.
fn flip(pool: &Recorded, chance: &mut Chance) -> Done {
    let longest = if chance.happens(16) { 40_000 } else { 600 };
    let sizes: Vec<u64> = (0..=chance.below(3)).map(|_| 1 + chance.below(longest)).collect();
    let reserved = pool.reserve(&sizes)?;
    for (index, &size) in sizes.iter().enumerate() {
        let bytes = random_bytes(size, chance);
        let cut = chance.below(size + 1) as usize;
        let write = || {
            reserved.write(index, 0, &bytes[..cut])?;
            reserved.write(index, cut as u64, &bytes[cut..])?;
            reserved.fence();
            Ok::<_, Error>(())
        };
        if chance.happens(128) {
            thread::scope(|scope| scope.spawn(write).join()).expect("no worker panics")?;
        } else {
            write()?;
        }
    }
    if chance.happens(32) {
        return Ok(());
    }
    let meta = random_bytes(chance.below(60), chance);
    let name = ["m", "n"][chance.below(2) as usize];
    pool.commit(&Entry { name: name.into(), meta, block: 0, extents: reserved.extents() }, reserved)
}

/// Does a few things in one transaction, or gives them up.
fn transaction(pool: &Recorded, chance: &mut Chance) -> Done {
    let named: Vec<u64> = pool.entries().iter().map(|entry| entry.block).collect();
    let mut loose = pool.verify()?.blocks;
    loose.retain(|block| !named.contains(block));
    let mut tx = pool.transaction()?;
    for _ in 0..=chance.below(5) {
        let name = ["a", "b", "c", "d"][chance.below(4) as usize];
        match chance.below(8) {
            0 => loose.push(tx.allocate(1 + chance.below(500))?),
            1 if !loose.is_empty() => tx.free(loose.swap_remove(chance.below(loose.len() as u64) as usize))?,
            2 => drop_name(&mut tx, name)?,
            3 => {
                let block = tx.entry(name).map_or(0, |entry| entry.block);
                tx.set(name, &random_bytes(chance.below(60), chance), block)?;
            }
            4 => {
                drop_name(&mut tx, name)?;
                let longest = if chance.happens(16) { 6000 } else { 300 };
                let block = tx.create(&random_bytes(1 + chance.below(longest), chance))?;
                tx.set(name, &random_bytes(chance.below(20), chance), block)?;
            }
            _ => {
                let block = tx.entry(name).map_or(0, |entry| entry.block);
                if block != 0 {
                    store(&mut tx, block, chance)?;
                }
            }
        }
    }
    if chance.happens(40) { Ok(()) } else { tx.commit() }
}

fn drop_name(tx: &mut Transaction<Recorder>, name: &str) -> Done {
    match tx.remove(name)? {
        Some(entry) if entry.block != 0 => tx.free(entry.block),
        _ => Ok(()),
    }
}

fn store(tx: &mut Transaction<Recorder>, block: u64, chance: &mut Chance) -> Done {
    let block = tx.block(block)?;
    let at = chance.below(block.bytes());
    let len = 1 + chance.below((block.bytes() - at).min(100));
    tx.store(block, at, &random_bytes(len, chance))
}

fn random_bytes(len: u64, chance: &mut Chance) -> Vec<u8> {
    (0..len).map(|_| chance.number() as u8).collect()
}
