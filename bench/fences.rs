//! What each of the four fences of a transaction costs: `plinius bench sps --fences target/release/examples/fences`.
//!
//! The swaps of `plinius bench sps` run over a region that counts, and that leaves out a fence when it is told to. What a
//! transaction is faster without a fence is what that fence costs where it stands. (Without a crash a missing fence harms
//! nothing.) What one fence does not wait for, the next may: so the four do not add up, and they are left out together
//! too. Arguments as a peer's, see bench/peers/README.md.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use plinius_pm::{Flush, MappedFile, Options, Pool, Region, Result};

#[path = "../crates/py-pm/src/swaps.rs"]
mod swaps;

const FENCES: usize = 4;
/// Which of them is left out.
const NONE: usize = FENCES;
const ALL: usize = FENCES + 1;
/// Ways to run a transaction, measured in turn; the last is the first once more, so that the difference of the two shows
/// the noise. Each turn is short, a millisecond or so: other work on the machine disturbs few turns, and the medians do
/// not see it.
const WAYS: [usize; 7] = [NONE, 0, 1, 2, 3, ALL, NONE];
const TURN_S: f64 = 0.0005;
const LINE: u64 = 64;
const LINE_TURNS: u32 = 201;
const LINE_ROUNDS: u32 = 1000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, array_bytes, swaps, seconds, pwb, seed] = &arguments[..] else {
        eprintln!("usage: fences POOL_FILE ARRAY_BYTES SWAPS_PER_TRANSACTION SECONDS PWB SEED");
        std::process::exit(2);
    };
    let [array_bytes, swaps, seed] = [array_bytes, swaps, seed].map(|text| text.parse().expect("a number"));
    let seconds: f64 = seconds.parse().expect("seconds are a number");
    let known = [Flush::Clwb, Flush::ClflushOpt, Flush::Clflush, Flush::None];
    let flush = *known.iter().find(|flush| flush.name() == pwb).expect("PWB is clwb, clflushopt, clflush or none");

    let line_ns = one_line(Path::new(path), flush)?;
    let counted = Arc::new(Counted::default());
    let region = Counting { file: mapped(Path::new(path), flush)?, counted: counted.clone() };
    let options = Options { max_bytes: None, heap_bytes: 1 << 21, pool_id: [1; 16], flush: Some(flush), require: None };
    let mut array = swaps::Array::create(&Pool::over(region, options)?, array_bytes, seed)?;
    array.swap_for(seconds / 10.0, swaps)?;

    let mut took_ns = WAYS.map(|_| Vec::new());
    let begun = Instant::now();
    for round in 0.. {
        if begun.elapsed().as_secs_f64() >= seconds {
            break;
        }
        for turn in 0..WAYS.len() {
            let at = (round + turn * (1 + round / 7 % 6)) % 7; // 7 is prime: each way follows each other equally often
            counted.begin(WAYS[at]);
            let (done, elapsed_s) = array.swap_for(TURN_S, swaps)?;
            assert_eq!(counted.fences.load(Ordering::Relaxed), FENCES as u64 * (done / swaps), "not 4 fences");
            took_ns[at].push(elapsed_s * 1e9 / (done / swaps) as f64);
        }
    }
    counted.begin(NONE);
    let (done, _) = array.swap_for(TURN_S, swaps)?;
    let each = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / (done / swaps) as f64;
    let [fences, written_back, copied] = [&counted.fences, &counted.written_back, &counted.copied].map(each);
    array.finish()?;

    let [first, second, third, fourth, all, noise] = [1, 2, 3, 4, 5, 6].map(|way| saved(&took_ns[0], &took_ns[way]));
    println!(
        "{{\"fences\": {fences}, \"written_back_lines\": {written_back:.2}, \"copied_lines\": {copied:.2}, \
         \"one_line_ns\": {line_ns:.1}, \"transaction_ns\": {:.1}, \
         \"fence_ns\": [{first:.1}, {second:.1}, {third:.1}, {fourth:.1}], \"all_fences_ns\": {all:.1}, \"noise_ns\": {noise:.1}}}",
        median(took_ns[0].clone()),
    );
    Ok(())
}

fn mapped(path: &Path, flush: Flush) -> Result<MappedFile> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    MappedFile::map(Box::new(Arc::new(file.expect("the pool's file can be made"))), Some(flush), None)
}

/// Nanoseconds to store one word, write its line back and fence: what a change of the state word takes.
fn one_line(path: &Path, flush: Flush) -> Result<f64> {
    let region = mapped(path, flush)?;
    region.grow(1 << 16)?;
    let mut took_ns = Vec::new();
    for turn in 0..LINE_TURNS {
        let begun = Instant::now();
        for round in 0..LINE_ROUNDS {
            region.store(0, &u64::from(turn ^ round).to_le_bytes());
            region.pwb(0, 8);
            region.pfence()?;
        }
        took_ns.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(LINE_ROUNDS));
    }
    Ok(median(took_ns))
}

/// The median over the turns of what one way takes longer than another.
fn saved(whole_ns: &[f64], without_ns: &[f64]) -> f64 {
    median(whole_ns.iter().zip(without_ns).map(|(whole, without)| whole - without).collect())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// What a region has seen since `begin`, and which fence it leaves out.
#[derive(Default)]
struct Counted {
    fences: AtomicU64,
    written_back: AtomicU64,
    copied: AtomicU64,
    left_out: AtomicUsize,
}

impl Counted {
    /// Between two transactions: so the fences of each are numbers 0 to 3.
    fn begin(&self, left_out: usize) {
        self.left_out.store(left_out, Ordering::Relaxed);
        for count in [&self.fences, &self.written_back, &self.copied] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Not `fetch_add`, which would be a fence itself. One thread swaps.
    fn add(count: &AtomicU64, more: u64) -> u64 {
        let before = count.load(Ordering::Relaxed);
        count.store(before + more, Ordering::Relaxed);
        before
    }
}

struct Counting {
    file: MappedFile,
    counted: Arc<Counted>,
}

impl Counting {
    fn has_next_fence(&self) -> bool {
        let number = Counted::add(&self.counted.fences, 1) as usize % FENCES;
        let left_out = self.counted.left_out.load(Ordering::Relaxed);
        left_out != ALL && left_out != number
    }
}

impl Region for Counting {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn check_whole(&self) -> Result<()> {
        self.file.check_whole()
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        self.file.load(at, out);
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.file.store(at, bytes);
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        self.file.stream(at, bytes);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        Counted::add(&self.counted.copied, len / LINE);
        self.file.copy(from, to, len);
    }

    fn pwb(&self, at: u64, len: u64) {
        Counted::add(&self.counted.written_back, (at + len).div_ceil(LINE) - at / LINE);
        self.file.pwb(at, len);
    }

    fn thread_fence(&self) {
        self.file.thread_fence();
    }

    fn pfence(&self) -> Result<()> {
        if self.has_next_fence() { self.file.pfence() } else { Ok(()) }
    }

    fn psync(&self) -> Result<()> {
        if self.has_next_fence() { self.file.psync() } else { Ok(()) }
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        self.file.grow(bytes)
    }
}
