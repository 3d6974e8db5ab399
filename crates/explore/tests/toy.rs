//! The explorer on programs of a few lines: it lets right ones pass, and finds what wrong ones lack.

use std::thread;

use plinius_explore::explorer::{Recording, Subject, explore};
use plinius_explore::medium::{Kind, Removed};
use plinius_explore::plan::{Plan, Report};
use plinius_explore::record::{Fault, Recorder};
use plinius_pm::Region;

const SELECTOR: u64 = 0;
const SLOTS: [u64; 2] = [64, 128];

fn word(region: &Recorder, at: u64) -> u64 {
    let mut bytes = [0; 8];
    region.load(at, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// A pair of words in one of two slots; a selector says in which.
struct Register;

impl Register {
    fn put(region: &Recorder, pair: [u64; 2]) {
        let next = 1 - word(region, SELECTOR);
        region.store(SLOTS[next as usize], &pair.map(u64::to_le_bytes).concat());
        region.pwb(SLOTS[next as usize], 16);
        region.pfence().unwrap();
        region.store(SELECTOR, &next.to_le_bytes());
        region.pwb(SELECTOR, 8);
        region.psync().unwrap();
    }
}

impl Subject for Register {
    type Open = Recorder;
    type Contents = [u64; 2];

    fn open(&self, region: Recorder) -> Result<Recorder, String> {
        Ok(region)
    }

    fn contents(&self, region: &Recorder) -> Result<[u64; 2], String> {
        let slot = *SLOTS.get(word(region, SELECTOR) as usize).ok_or("the selector is damaged")?;
        Ok([word(region, slot), word(region, slot + 8)])
    }

    fn ways(&self) -> usize {
        2
    }

    fn go_on(&self, region: &Recorder, _way: usize, before: &[u64; 2]) -> Result<[u64; 2], String> {
        let pair = before.map(|word| word + 1);
        Self::put(region, pair);
        if self.contents(region)? == pair { Ok(pair) } else { Err("another pair".into()) }
    }
}

fn record(program: impl FnOnce(&Recorder), states: &[[u64; 2]]) -> Recording<[u64; 2]> {
    let region = Recorder::holding(vec![0; 256]);
    program(&region);
    Recording { start: vec![0; 256], states: states.to_vec(), log: region.take() }
}

fn puts() -> Recording<[u64; 2]> {
    let program = |region: &Recorder| {
        for pair in [[1, 2], [3, 4]] {
            Register::put(region, pair);
            region.mark();
        }
    };
    record(program, &[[0, 0], [1, 2], [3, 4]])
}

fn violation(report: &Report) -> &str {
    report.violation.as_deref().unwrap_or_default()
}

#[test]
fn a_right_program_passes() {
    for kind in [Kind::Lines, Kind::File] {
        let report = explore(&Register, &Plan::exhaustive(kind), &puts());
        assert_eq!(violation(&report), "");
        assert_eq!(report.sampled_points, 0);
        assert!(report.seen.len() > 12, "{}", report.seen.len());
    }
}

#[test]
fn each_of_its_flushes_and_fences_is_missed() {
    let recording = puts();
    let sites = explore(&Register, &Plan::exhaustive(Kind::Lines), &recording).sites;
    assert_eq!(sites.len(), 4);
    for removed in sites.into_keys() {
        let plan = Plan { removed: Some(removed), ..Plan::exhaustive(Kind::Lines) };
        assert_ne!(violation(&explore(&Register, &plan, &recording)), "", "{removed:?}");
    }
}

#[test]
fn a_selector_that_is_early_is_found() {
    let fault = Some(Fault::WordEarly);
    let region = Recorder::holding(vec![0; 256]).with_fault(fault);
    Register::put(&region, [1, 2]);
    let recording = Recording { start: vec![0; 256], states: vec![[0, 0], [1, 2]], log: region.take() };
    let report = explore(&Register, &Plan { fault, ..Plan::exhaustive(Kind::Lines) }, &recording);
    assert!(violation(&report).contains("may hold"), "{:?}", report.violation);
}

#[test]
fn a_commit_that_is_reported_too_early_is_found() {
    let program = |region: &Recorder| {
        region.mark();
        Register::put(region, [1, 2]);
    };
    let report = explore(&Register, &Plan::exhaustive(Kind::Lines), &record(program, &[[0, 0], [1, 2], [1, 2]]));
    assert!(violation(&report).contains("after 1 marks"), "{:?}", report.violation);
}

/// Two threads each stream one word of the pair.
fn in_two_threads(region: &Recorder) {
    for (at, value) in [(128, 5_u64), (136, 6)] {
        let worker = || {
            region.stream(at, &value.to_le_bytes());
            region.thread_fence();
        };
        thread::scope(|scope| drop(scope.spawn(worker)));
    }
    region.store(SELECTOR, &1_u64.to_le_bytes());
    region.pwb(SELECTOR, 8);
    region.psync().unwrap();
    region.mark();
}

#[test]
fn the_fence_of_each_thread_is_missed() {
    let recording = record(in_two_threads, &[[0, 0], [5, 6]]);
    let report = explore(&Register, &Plan::exhaustive(Kind::Lines), &recording);
    assert_eq!(violation(&report), "");
    let workers = report.sites.keys().filter(|removed| removed.thread.is_some());
    let caught = workers.filter(|removed: &&Removed| {
        let plan = Plan { removed: Some(**removed), ..Plan::exhaustive(Kind::Lines) };
        explore(&Register, &plan, &recording).violation.is_some()
    });
    assert_eq!(caught.count(), 2, "{:?}", report.sites);
}

/// Counts how often it was recovered: right after one crash, wrong after another inside the recovery.
struct Counting;

impl Subject for Counting {
    type Open = Recorder;
    type Contents = u64;

    fn open(&self, region: Recorder) -> Result<Recorder, String> {
        if word(&region, SELECTOR) == 1 {
            let counted = word(&region, 64) + 1;
            region.store(64, &counted.to_le_bytes());
            region.pwb(64, 8);
            region.pfence().unwrap();
            region.store(SELECTOR, &0_u64.to_le_bytes());
        }
        Ok(region)
    }

    fn contents(&self, region: &Recorder) -> Result<u64, String> {
        Ok(word(region, 64))
    }

    fn ways(&self) -> usize {
        1
    }

    fn go_on(&self, _region: &Recorder, _way: usize, before: &u64) -> Result<u64, String> {
        Ok(*before)
    }
}

#[test]
fn a_recovery_that_cannot_be_repeated_is_found() {
    let start: Vec<u8> =
        [1_u64, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let recording = Recording { start, states: vec![8], log: plinius_explore::record::Log::default() };
    let report = explore(&Counting, &Plan::exhaustive(Kind::Lines), &recording);
    assert!(violation(&report).contains("inside its recovery"), "{:?}", report.violation);
}
