use super::*;
use crate::recording::Recording;

struct Fixture {
    region: Recording,
    layout: Superblock,
}

impl Fixture {
    /// A heap whose whole length is in use.
    fn new(heap_bytes: u64) -> Self {
        let layout = Superblock::new([0; 16], heap_bytes);
        let region = Recording::holding(&vec![0; layout.pool_bytes as usize]);
        format(&region, &layout);
        let fixture = Self { region, layout };
        let mut tx = fixture.begin();
        tx.set_used(heap_bytes).unwrap();
        tx.commit().unwrap();
        fixture
    }

    fn begin(&self) -> Transaction<'_, Recording> {
        Transaction::begin(&self.region, &self.layout)
    }

    fn state(&self) -> State {
        State::parse(load_u64(&self.region, STATE_OFFSET)).unwrap()
    }

    fn main(&self) -> Vec<u8> {
        self.heap(&self.region.bytes(), self.layout.main_offset)
    }

    /// Main and back as a power failure leaves them.
    fn durable(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = self.region.durable();
        (self.heap(&bytes, self.layout.main_offset), self.heap(&bytes, self.layout.back_offset))
    }

    fn heap(&self, bytes: &[u8], at: u64) -> Vec<u8> {
        bytes[at as usize..(at + self.layout.heap_bytes) as usize].to_vec()
    }

    fn fences(&self, work: impl FnOnce()) -> usize {
        let before = self.region.fences();
        work();
        self.region.fences() - before
    }
}

#[test]
fn a_state_word_is_one_of_three() {
    for state in [State::Idle, State::Mutating, State::Copying] {
        assert_eq!(State::parse(state.word()).unwrap(), state);
        for bit in 0..64 {
            assert!(State::parse(state.word() ^ (1 << bit)).is_err(), "{state:?} with bit {bit} changed");
        }
    }
    assert!(State::parse(0).is_err());
}

#[test]
fn a_transaction_takes_four_fences_whatever_its_size() {
    let heap = Fixture::new(1 << 20);
    for stores in [1, 2, 100, 3 * MAX_LOGGED_RANGES as u64] {
        let fences = heap.fences(|| {
            let mut tx = heap.begin();
            (0..stores).for_each(|at| tx.store_word(64 + at * 128 % (1 << 19), at + 1).unwrap());
            tx.commit().unwrap();
        });
        assert_eq!(fences, 4, "{stores} stores");
    }
}

#[test]
fn a_transaction_that_stores_nothing_costs_nothing() {
    let heap = Fixture::new(4096);
    let before = heap.main();
    assert_eq!(heap.fences(|| heap.begin().commit().unwrap()), 0);
    assert_eq!(heap.fences(|| drop(heap.begin())), 0);
    assert_eq!(heap.main(), before);
}

#[test]
fn what_was_committed_is_durable_in_both_copies() {
    let heap = Fixture::new(4096);
    let mut tx = heap.begin();
    tx.store(100, &[7; 300]).unwrap();
    tx.store_word(4000, 9).unwrap();
    tx.commit().unwrap();
    let (main, back) = heap.durable();
    assert_eq!(main, back);
    assert_eq!(main, heap.main());
    assert_eq!((&main[100..400], main[4000], heap.state()), (&[7_u8; 300][..], 9, State::Idle));
}

#[test]
fn each_commit_is_counted() {
    let heap = Fixture::new(4096);
    let count = || MainHeap::new(&heap.region, &heap.layout).commits();
    let before = count();
    (0..3).for_each(|round| {
        let mut tx = heap.begin();
        tx.store_word(128, round).unwrap();
        tx.commit().unwrap();
    });
    assert_eq!(count(), before + 3);
}

#[test]
fn a_dropped_transaction_is_rolled_back() {
    for stores in [1, 5, 3 * MAX_LOGGED_RANGES as u64] {
        let heap = Fixture::new(1 << 20);
        let before = heap.main();
        let mut tx = heap.begin();
        (0..stores).for_each(|at| tx.store_word(64 + at * 128 % (1 << 19), at + 1).unwrap());
        assert_ne!(heap.main(), before);
        assert_eq!(heap.state(), State::Mutating);
        drop(tx);
        assert_eq!(heap.main(), before);
        assert_eq!((heap.state(), heap.durable().0 == before), (State::Idle, true));
    }
}

#[test]
fn a_transaction_that_grew_the_heap_is_rolled_back() {
    let heap = Fixture::new(4096);
    let mut shrink = heap.begin();
    shrink.set_used(128).unwrap();
    shrink.commit().unwrap();
    let mut tx = heap.begin();
    tx.store(128, &[1; 1000]).unwrap();
    tx.set_used(1136).unwrap();
    drop(tx);
    assert_eq!(MainHeap::new(&heap.region, &heap.layout).used().unwrap(), 128);
}

/// With `Copying` on the medium main is the good copy, with `Mutating` back is.
#[test]
fn recovery_copies_in_the_direction_of_the_state() {
    for (state, good) in [(State::Copying, 1), (State::Mutating, 2), (State::Idle, 1)] {
        let heap = Fixture::new(4096);
        for (copy, fill) in [(heap.layout.main_offset, 1), (heap.layout.back_offset, 2)] {
            heap.region.store(copy + 200, &[fill; 8]);
            heap.region.pwb(copy + 200, 8);
        }
        write_state(&heap.region, state);
        heap.region.psync().unwrap();
        recover(&heap.region, &heap.layout).unwrap();
        assert_eq!((heap.main()[200], heap.state()), (good, State::Idle), "{state:?}");
        let (main, back) = heap.durable();
        assert_eq!(main == back && main[200] == good, state != State::Idle, "{state:?}");
    }
}

#[test]
fn recovery_refuses_a_heap_of_impossible_length() {
    for used in [0, 63, 72, 4112, u64::MAX] {
        let heap = Fixture::new(4096);
        heap.region.store(heap.layout.back_offset, &used.to_le_bytes());
        write_state(&heap.region, State::Mutating);
        assert!(matches!(recover(&heap.region, &heap.layout), Err(Error::Corrupt(_))), "{used}");
    }
}

/// A medium that fails: before the third fence the transaction is rolled back, afterwards it stands.
#[test]
fn a_failing_fence_leaves_a_state_from_which_recovery_finds_one_of_the_two() {
    for working in 0..4 {
        let heap = Fixture::new(4096);
        let before = heap.main();
        heap.region.fail_after(Some(working));
        let mut tx = heap.begin();
        let stored = tx.store_word(512, 5);
        assert_eq!(stored.is_ok(), working > 0);
        if stored.is_ok() {
            assert!(tx.commit().is_err(), "with {working} fences that work");
        }
        heap.region.fail_after(None);
        recover(&heap.region, &heap.layout).unwrap();
        let after = heap.main();
        assert_eq!(after[512], if working < 2 { 0 } else { 5 }, "with {working} fences that work");
        assert!(working >= 2 || after == before);
    }
}

fn log(stores: &[(u64, u64)]) -> RangeLog {
    let mut log = RangeLog::default();
    stores.iter().for_each(|(at, len)| log.add(*at, *len));
    log
}

#[test]
fn ranges_are_whole_lines_sorted_and_merged() {
    assert_eq!(log(&[(65, 1)]).ranges(4096), [(64, 128)]);
    assert_eq!(log(&[(60, 8)]).ranges(4096), [(0, 128)]);
    assert_eq!(log(&[(1024, 8), (0, 8), (64, 8), (1030, 60)]).ranges(4096), [(0, 128), (1024, 1152)]);
    assert_eq!(log(&[(512, 8), (0, 8), (512, 8)]).ranges(4096), [(0, 64), (512, 576)]);
}

#[test]
fn a_log_as_long_as_the_used_heap_is_one_range_that_holds_all_of_it() {
    assert_eq!(log(&[(0, 64), (128, 64)]).ranges(128), [(0, 64), (128, 192)]);
    assert_eq!(log(&[(0, 128), (256, 64)]).ranges(128), [(0, 128), (256, 320)]);
    assert_eq!(log(&[(0, 320)]).ranges(128), [(0, 320)]);
    assert_eq!(log(&[(0, 128)]).ranges(128), [(0, 128)]);
}

#[test]
fn too_many_ranges_become_the_one_around_them() {
    let mut log = RangeLog::default();
    (0..=MAX_LOGGED_RANGES as u64).rev().for_each(|place| log.add((1 << 20) + place * 256, 8));
    assert_eq!(log.ranges.len(), 1);
    assert_eq!(log.ranges(4 << 20), [(1 << 20, (1 << 20) + MAX_LOGGED_RANGES as u64 * 256 + 64)]);
}

/// Whatever the log was folded into, main is written back, not only copied.
#[test]
fn a_folded_log_is_still_written_back() {
    let heap = Fixture::new(4 << 20);
    let mut tx = heap.begin();
    (0..2 * MAX_LOGGED_RANGES as u64).rev().for_each(|place| tx.store_word(64 + place * 256, place + 1).unwrap());
    tx.commit().unwrap();
    let (main, back) = heap.durable();
    assert!(main == heap.main() && back == heap.main());
}
