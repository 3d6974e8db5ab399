use super::*;
use crate::recording::Recording;
use crate::twins::Segment;

const MAIN: u64 = 12_288;

struct Fixture {
    region: Recording,
    map: HeapMap,
    log: Log,
}

impl Fixture {
    /// A heap of these segments, one behind the other in the file with a page between them, all of it in use.
    fn new(segments: &[u64]) -> Self {
        let mut offset = MAIN;
        let mut place = |bytes: &u64| {
            let segment = Segment { offset, bytes: *bytes };
            offset += 2 * bytes + 4096;
            segment
        };
        let map = HeapMap::new(segments.iter().map(&mut place).collect());
        let region = Recording::holding(&vec![0; offset as usize]);
        format(&region, &map);
        region.psync().unwrap();
        let mut fixture = Self { region, log: Log::default(), map };
        fixture.log.lines.cover(fixture.map.bytes());
        fixture.change(|tx| tx.set_used(tx.heap_bytes()));
        fixture
    }

    fn begin(&mut self) -> Mutation<'_, Recording> {
        Mutation { region: &self.region, map: &self.map, log: &mut self.log }
    }

    fn change(&mut self, work: impl FnOnce(&mut Mutation<'_, Recording>) -> Result<()>) {
        let mut tx = self.begin();
        work(&mut tx).unwrap();
        tx.make_durable().unwrap();
        tx.copy_to_back().unwrap();
    }

    fn recover(&self) -> Result<()> {
        recover(&self.region, &self.map)
    }

    fn half(&self, twin: Twin) -> Half<'_, Recording> {
        Half { region: &self.region, map: &self.map, twin }
    }

    fn state(&self) -> State {
        State::parse(load_u64(&self.region, STATE_OFFSET)).unwrap()
    }

    fn durable_state(&self) -> State {
        State::parse(load_u64(&Recording::holding(&self.region.durable()), STATE_OFFSET)).unwrap()
    }

    fn main(&self) -> Vec<u8> {
        self.heap(&self.region.bytes(), Twin::Main)
    }

    /// Main and back as a power failure leaves them.
    fn durable(&self) -> [Vec<u8>; 2] {
        let bytes = self.region.durable();
        [Twin::Main, Twin::Back].map(|twin| self.heap(&bytes, twin))
    }

    fn heap(&self, file: &[u8], twin: Twin) -> Vec<u8> {
        let mut heap = vec![0; self.map.bytes() as usize];
        Half { region: &Recording::holding(file), map: &self.map, twin }.load(0, &mut heap);
        heap
    }

    /// Fills both copies behind the header, durably, each with its own byte, and sets the state.
    fn fill(&self, state: State, fills: [u8; 2]) {
        for (twin, fill) in [Twin::Main, Twin::Back].into_iter().zip(fills) {
            let mut at = HEAP_HEADER_BYTES;
            while at < self.map.bytes() {
                let (offset, room) = self.map.locate(twin, at);
                self.region.store(offset, &vec![fill; room as usize]);
                self.region.pwb(offset, room);
                at += room;
            }
        }
        state.announce(&self.region);
        self.region.psync().unwrap();
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
    let mut heap = Fixture::new(&[1 << 20]);
    for stores in [1, 2, 100, 20_000] {
        let before = heap.region.fences();
        heap.change(|tx| (0..stores).try_for_each(|at| tx.store_word(64 + at * 128 % (1 << 19), at + 1)));
        assert_eq!(heap.region.fences() - before, 4, "{stores} stores");
        heap.change(|tx| tx.store(64, &vec![stores as u8; (1 << 20) - 64]));
        assert_eq!(heap.region.fences() - before, 8, "the whole heap");
    }
}

#[test]
fn nothing_is_written_before_the_first_store() {
    let mut heap = Fixture::new(&[4096]);
    let (before, fences) = (heap.region.bytes(), heap.region.fences());
    assert!(!heap.begin().log.has_begun());
    assert!((heap.region.bytes(), heap.region.fences()) == (before, fences));
}

/// The order in which the states reach the medium, as somebody sees who pulls the plug behind each half.
#[test]
fn the_state_on_the_medium_names_the_copy_that_is_whole() {
    let mut heap = Fixture::new(&[4096]);
    let mut tx = heap.begin();
    tx.store_word(512, 5).unwrap();
    assert!(tx.log.has_begun());
    assert_eq!((heap.state(), heap.durable_state()), (State::Mutating, State::Mutating));
    assert_eq!(heap.durable()[1][512], 0, "back changed while main is not whole");
    heap.begin().make_durable().unwrap();
    assert_eq!((heap.state(), heap.durable_state()), (State::Copying, State::Copying));
    assert_eq!((heap.durable()[0][512], heap.durable()[1][512]), (5, 0));
    heap.begin().copy_to_back().unwrap();
    assert_eq!((heap.state(), heap.durable_state()), (State::Idle, State::Copying));
    assert_eq!((heap.durable()[0][512], heap.durable()[1][512]), (5, 5));
}

#[test]
fn what_was_committed_is_durable_in_both_copies() {
    let mut heap = Fixture::new(&[4096]);
    heap.change(|tx| tx.store(100, &[7; 300]).and_then(|()| tx.store_word(4000, 9)));
    let [main, back] = heap.durable();
    assert_eq!(main, back);
    assert_eq!(main, heap.main());
    assert_eq!((&main[100..400], main[4000], heap.state()), (&[7_u8; 300][..], 9, State::Idle));
    assert!(!heap.log.has_begun() && heap.log.lines.ranges().next().is_none());
}

#[test]
fn a_transaction_of_every_line_is_durable_in_both_copies() {
    let mut heap = Fixture::new(&[4096, 8192]);
    heap.change(|tx| (64..12_288).step_by(8).try_for_each(|at| tx.store_word(at, at)));
    let [main, back] = heap.durable();
    assert!(main == back && main == heap.main());
    assert!((64..12_288).step_by(8).all(|at| heap.half(Twin::Back).word(at) == at));
}

#[test]
fn each_commit_is_counted() {
    let mut heap = Fixture::new(&[4096]);
    let before = heap.half(Twin::Main).commits();
    (0..3).for_each(|round| heap.change(|tx| tx.store_word(128, round)));
    assert_eq!(heap.half(Twin::Main).commits(), before + 3);
    assert_eq!(heap.half(Twin::Back).commits(), before + 3);
}

#[test]
fn a_transaction_that_is_rolled_back_has_changed_nothing() {
    for stores in [1, 5, 20_000] {
        let mut heap = Fixture::new(&[1 << 19, 1 << 19]);
        let before = heap.main();
        let mut tx = heap.begin();
        (0..stores).for_each(|at| tx.store_word(64 + at * 128 % ((1 << 20) - 64), at + 1).unwrap());
        tx.set_used(128).unwrap();
        assert_ne!(heap.main(), before);
        assert_eq!(heap.state(), State::Mutating);
        heap.begin().roll_back().unwrap();
        assert_eq!(heap.state(), State::Idle);
        assert!(heap.main() == before && heap.durable() == [before.clone(), before], "{stores} stores");
        assert!(!heap.log.has_begun());
    }
}

/// What one transaction logged is neither written back nor copied by the next one.
#[test]
fn a_transaction_pays_for_its_own_stores_only() {
    for roll_back in [false, true] {
        let mut heap = Fixture::new(&[1 << 16]);
        let mut tx = heap.begin();
        tx.store(64, &[1; 30_000]).unwrap();
        if roll_back {
            tx.roll_back().unwrap();
        } else {
            tx.make_durable().unwrap();
            tx.copy_to_back().unwrap();
        }
        let mut tx = heap.begin();
        tx.store_word(40_000, 1).unwrap();
        assert_eq!(tx.log.lines.ranges().collect::<Vec<_>>(), [(40_000, 64)]);
        tx.make_durable().unwrap();
        tx.copy_to_back().unwrap();
        assert_eq!(heap.durable()[0], heap.durable()[1]);
    }
}

const SEGMENTS: [u64; 3] = [4096, 8192, 4096];

#[test]
fn a_store_across_segments_lands_in_each_of_them() {
    let mut heap = Fixture::new(&SEGMENTS);
    let bytes: Vec<u8> = (0..9_000).map(|at| at as u8 | 1).collect();
    heap.change(|tx| tx.store(4_000, &bytes));
    for twin in [Twin::Main, Twin::Back] {
        let mut found = vec![0; 9_000];
        heap.half(twin).load(4_000, &mut found);
        assert!(found == bytes, "{twin:?}");
        assert_eq!((heap.half(twin).word(3_992), heap.half(twin).word(13_000)), (0, 0), "{twin:?}");
    }
    let file = heap.region.bytes();
    let second = MAIN as usize + 2 * 4096 + 4096;
    assert!(file[MAIN as usize + 4_000..][..96] == bytes[..96]);
    assert!(file[second..][..8192] == bytes[96..8_288]);
    assert!(file[second + 8192..][..8192] == bytes[96..8_288], "back's part follows main's");
    assert_eq!(heap.durable()[0], heap.durable()[1]);
}

#[test]
fn no_store_leaves_the_segments() {
    let mut heap = Fixture::new(&SEGMENTS);
    heap.change(|tx| tx.store(64, &[0xff; 16_384 - 64]));
    let file = heap.region.bytes();
    assert_eq!(file.len(), 57_344);
    for gap in [0..8_192, 8_200..12_288, 20_480..24_576, 40_960..45_056, 53_248..57_344] {
        assert!(file[gap.clone()].iter().all(|byte| *byte == 0), "{gap:?}");
    }
}

/// With `Copying` on the medium main is the good copy, with `Mutating` back is.
#[test]
fn recovery_copies_in_the_direction_of_the_state() {
    for segments in [&SEGMENTS[..1], &SEGMENTS] {
        for (state, good) in [(State::Copying, 1), (State::Mutating, 2)] {
            let heap = Fixture::new(segments);
            heap.fill(state, [1, 2]);
            heap.recover().unwrap();
            assert_eq!(heap.state(), State::Idle);
            for copy in [heap.main(), heap.durable()[0].clone(), heap.durable()[1].clone()] {
                let wrong = copy[HEAP_HEADER_BYTES as usize..].iter().position(|byte| *byte != good);
                assert_eq!(wrong, None, "{state:?}, {} segments", segments.len());
            }
        }
        let heap = Fixture::new(segments);
        heap.fill(State::Idle, [1, 2]);
        heap.recover().unwrap();
        assert_eq!((heap.main()[100], heap.durable()[1][100]), (1, 2), "an idle pool is left alone");
    }
}

/// The part of the last line behind `used` goes along, the rest of the heap is not touched.
#[test]
fn recovery_costs_what_is_in_use() {
    let mut heap = Fixture::new(&SEGMENTS);
    heap.change(|tx| tx.set_used(5_008));
    heap.fill(State::Mutating, [1, 2]);
    heap.recover().unwrap();
    let main = heap.main();
    assert!(main[64..5_056].iter().all(|byte| *byte == 2) && main[5_056..].iter().all(|byte| *byte == 1));
}

#[test]
fn recovery_refuses_a_heap_of_impossible_length() {
    for used in [0, 48, 63, 72, 16_400, u64::MAX] {
        let mut heap = Fixture::new(&SEGMENTS);
        heap.change(|tx| tx.set_used(used));
        State::Mutating.store(&heap.region);
        assert!(matches!(heap.recover(), Err(Error::Corrupt(_))), "{used}");
    }
}

/// Also one that would fit: after a crash there is no second copy to hold it against, and blocks would be lost in silence.
#[test]
fn every_changed_byte_of_the_length_in_use_is_seen() {
    let mut heap = Fixture::new(&SEGMENTS);
    heap.change(|tx| tx.set_used(0x1230));
    let (offset, _) = heap.map.locate(Twin::Back, USED_OFFSET);
    let words = used_words(0x1230);
    for (at, byte) in (offset..).zip(words) {
        for mask in 1..=255 {
            heap.region.store(at, &[byte ^ mask]);
            assert!(matches!(heap.half(Twin::Back).used(), Err(Error::Corrupt(_))), "byte {at}, {mask:#x}");
        }
        heap.region.store(at, &[byte]);
    }
    assert_eq!(heap.half(Twin::Back).used().unwrap(), 0x1230);
}

#[test]
fn heaps_whose_headers_differ_while_idle_are_refused() {
    for at in 0..HEAP_HEADER_BYTES {
        for twin in [Twin::Main, Twin::Back] {
            let heap = Fixture::new(&SEGMENTS);
            let (offset, _) = heap.map.locate(twin, at);
            let mut byte = [0];
            heap.region.load(offset, &mut byte);
            heap.region.store(offset, &[byte[0] ^ 1]);
            assert!(matches!(heap.recover(), Err(Error::Corrupt(_))), "byte {at} of {twin:?}");
        }
    }
}

/// A medium that fails: before the third fence the transaction is rolled back, afterwards it stands.
#[test]
fn a_failing_fence_leaves_a_state_from_which_recovery_finds_one_of_the_two() {
    for working in 0..4 {
        let mut heap = Fixture::new(&[4096]);
        let before = heap.main();
        heap.region.fail_after(Some(working));
        let mut tx = heap.begin();
        let stored = tx.store_word(512, 5);
        assert_eq!(stored.is_ok(), working > 0);
        if stored.is_ok() {
            assert!(tx.make_durable().and_then(|()| tx.copy_to_back()).is_err(), "{working} fences work");
        }
        heap.region.fail_after(None);
        heap.recover().unwrap();
        let after = heap.main();
        assert_eq!(after[512], if working < 2 { 0 } else { 5 }, "{working} fences work");
        assert!(working >= 2 || after == before);
        assert_eq!(heap.durable()[0], heap.durable()[1]);
    }
}

/// A failing medium must not take back what may be durable already.
#[test]
fn from_the_second_fence_on_nothing_is_left_to_roll_back() {
    for (working, begun) in [(1, true), (2, false), (3, false)] {
        let mut heap = Fixture::new(&[4096]);
        heap.region.fail_after(Some(working));
        let mut tx = heap.begin();
        tx.store_word(512, 5).unwrap();
        assert!(tx.make_durable().and_then(|()| tx.copy_to_back()).is_err());
        assert_eq!(heap.log.has_begun(), begun, "{working} fences work");
    }
}
