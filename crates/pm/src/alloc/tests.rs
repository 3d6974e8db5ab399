use std::collections::BTreeMap;

use super::*;
use crate::recording::Recording;
use crate::romulus::{Log, format};
use crate::superblock::Superblock;
use crate::twins::{Half, Twin};

const START: u64 = HEAP_HEADER_BYTES;

struct Fixture {
    region: Recording,
    layout: Superblock,
    log: Log,
    holes: Holes,
}

impl Fixture {
    fn new() -> Self {
        let layout = Superblock::new([0; 16], 4096).unwrap();
        let region = Recording::holding(&vec![0; layout.pool_bytes as usize]);
        format(&region, &layout.heap);
        let mut log = Log::default();
        log.lines.cover(4096);
        Self { region, layout, log, holes: Holes::default() }
    }

    fn change<T>(&mut self, work: impl FnOnce(&mut Mutation<'_, Recording>, &mut Holes) -> T) -> T {
        let mut tx = Mutation { region: &self.region, map: &self.layout.heap, log: &mut self.log };
        let result = work(&mut tx, &mut self.holes);
        tx.make_durable().unwrap();
        tx.copy_to_back().unwrap();
        result
    }

    fn allocate(&mut self, bytes: u64) -> Block {
        assert_eq!(missing(&self.heap(), &self.holes, bytes).unwrap(), 0);
        self.change(|tx, holes| allocate(tx, holes, bytes, Kind::Data)).unwrap()
    }

    fn free(&mut self, block: Block) {
        self.change(|tx, holes| free(tx, holes, block)).unwrap();
        self.check();
    }

    /// The holes that are known are those that a walk over the heap finds.
    fn check(&self) {
        let found = scan(&self.heap()).unwrap().holes;
        assert_eq!(format!("{found:?}"), format!("{:?}", self.holes));
    }

    fn heap(&self) -> Half<'_, Recording> {
        Half { region: &self.region, map: &self.layout.heap, twin: Twin::Main }
    }

    fn used(&self) -> u64 {
        self.heap().used().unwrap()
    }

    fn flip(&self, at: u64, mask: u8) {
        let (offset, _) = self.layout.heap.locate(Twin::Main, at);
        let mut byte = [0];
        self.region.load(offset, &mut byte);
        self.region.store(offset, &[byte[0] ^ mask]);
    }
}

#[test]
fn blocks_follow_each_other_in_multiples_of_sixteen_bytes() {
    let mut heap = Fixture::new();
    assert_eq!(heap.allocate(1), Block { at: START + 16, bytes: 16 });
    assert_eq!(heap.allocate(17), Block { at: START + 48, bytes: 32 });
    assert_eq!(heap.allocate(0), Block { at: START + 96, bytes: 0 });
    assert_eq!(heap.allocate(16), Block { at: START + 112, bytes: 16 });
    assert_eq!(heap.used(), START + 128);
    assert_eq!(scan(&heap.heap()).unwrap().data.len(), 4);
}

#[test]
fn a_freed_block_is_used_again_and_split() {
    let mut heap = Fixture::new();
    let first = heap.allocate(100);
    heap.allocate(16);
    let used = heap.used();
    heap.free(first);
    assert_eq!(heap.allocate(32).at, first.at);
    assert_eq!(heap.allocate(32).at, first.at + 48);
    heap.check();
    assert_eq!((heap.used(), heap.holes.bytes()), (used, 32));
}

#[test]
fn the_smallest_hole_that_fits_is_used() {
    let mut heap = Fixture::new();
    let blocks: Vec<Block> = [400, 16, 100, 16, 200, 16].iter().map(|bytes| heap.allocate(*bytes)).collect();
    [0, 2, 4].iter().for_each(|index| heap.free(blocks[*index]));
    assert_eq!(heap.allocate(110).at, blocks[2].at);
    assert_eq!(heap.allocate(120).at, blocks[4].at);
}

#[test]
fn free_neighbours_become_one_block() {
    for order in [[1, 0, 2], [0, 1, 2], [2, 1, 0], [0, 2, 1]] {
        let mut heap = Fixture::new();
        let blocks: Vec<Block> = (0..4).map(|_| heap.allocate(16)).collect();
        let used = heap.used();
        order.iter().for_each(|index| heap.free(blocks[*index]));
        assert_eq!(heap.allocate(3 * 16 + 2 * 16).at, blocks[0].at, "{order:?}");
        assert_eq!((heap.used(), heap.holes.bytes()), (used, 0), "{order:?}");
    }
}

#[test]
fn what_is_free_at_the_end_is_not_in_use() {
    let mut heap = Fixture::new();
    let blocks: Vec<Block> = [16, 50, 100, 20].iter().map(|bytes| heap.allocate(*bytes)).collect();
    heap.free(blocks[3]);
    assert_eq!(heap.used(), blocks[3].at - 16);
    heap.free(blocks[1]);
    assert_eq!(heap.used(), blocks[3].at - 16);
    heap.free(blocks[2]);
    assert_eq!((heap.used(), heap.holes.bytes()), (blocks[1].at - 16, 0));
    heap.free(blocks[0]);
    assert_eq!(heap.used(), START);
    assert_eq!(missing(&heap.heap(), &heap.holes, 4096 - START - 16).unwrap(), 0);
}

/// Also a block whose freeing became one with the hole before it, where no header of its own is left.
#[test]
fn a_block_is_freed_once() {
    for (freed_before, last) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut heap = Fixture::new();
        let (before, block) = (heap.allocate(16), heap.allocate(16));
        if !last {
            heap.allocate(16);
        }
        if freed_before {
            heap.free(before);
        }
        heap.free(block);
        let again = block_at(&heap.heap(), block.at, Kind::Data);
        assert!(matches!(again, Err(Error::Corrupt(_))), "{freed_before} {last}: {again:?}");
    }
}

#[test]
fn a_block_behind_a_hole_that_became_one_with_it_is_freed_once() {
    let mut heap = Fixture::new();
    let blocks: Vec<Block> = (0..4).map(|_| heap.allocate(32)).collect();
    [1, 0].iter().for_each(|index| heap.free(blocks[*index]));
    for block in &blocks[..2] {
        assert!(block_at(&heap.heap(), block.at, Kind::Data).is_err(), "{block:?}");
    }
}

#[test]
fn only_a_block_of_its_kind_is_found() {
    let mut heap = Fixture::new();
    let data = heap.allocate(64);
    let entry = heap.change(|tx, holes| allocate(tx, holes, 64, Kind::Entry)).unwrap();
    let hole = heap.allocate(64);
    heap.allocate(16);
    heap.free(hole);
    let kinds = [Kind::Data, Kind::Entry, Kind::Free];
    for (block, kind) in [data, entry, hole].into_iter().zip(kinds) {
        for asked in kinds {
            assert_eq!(
                block_at(&heap.heap(), block.at, asked).ok(),
                (asked == kind).then_some(block),
                "{kind:?} as {asked:?}"
            );
        }
    }
    let used = heap.used();
    let nowhere = [0, 1, 16, 64, data.at - 16, data.at + 1, data.at + 8, data.at + 16, used, used + 16, 4096];
    for at in nowhere.into_iter().chain([1 << 40, u64::MAX - 15, u64::MAX]) {
        assert!(matches!(block_at(&heap.heap(), at, Kind::Data), Err(Error::Corrupt(_))), "{at}");
    }
}

#[test]
fn what_the_heap_lacks_is_told_to_the_byte() {
    let mut heap = Fixture::new();
    let behind = 4096 - START;
    let lacks = |heap: &Fixture, bytes| missing(&heap.heap(), &heap.holes, bytes).unwrap();
    assert_eq!((lacks(&heap, behind - 16), lacks(&heap, behind - 15), lacks(&heap, behind)), (0, 16, 16));
    let first = heap.allocate(500);
    heap.allocate(behind - 528 - 16);
    assert_eq!((heap.used(), lacks(&heap, 0), lacks(&heap, 100)), (4096, 16, 128));
    heap.free(first);
    assert_eq!((lacks(&heap, 512), lacks(&heap, 513)), (0, 544));
    for impossible in [u64::MAX, u64::MAX - 15, u64::MAX - 16] {
        assert!(matches!(missing(&heap.heap(), &heap.holes, impossible), Err(Error::Misuse(_))), "{impossible}");
    }
    assert_eq!(lacks(&heap, u64::MAX - 63), u64::MAX - 47);
}

/// The sizes are chosen so that a changed byte also gives one that would fit.
#[test]
fn every_changed_byte_of_a_header_is_seen() {
    for kind in [Kind::Data, Kind::Entry, Kind::Free] {
        let mut heap = Fixture::new();
        let block = heap.change(|tx, holes| allocate(tx, holes, 0x110, kind)).unwrap();
        heap.allocate(0x500);
        for at in block.at - HEADER_BYTES..block.at {
            for mask in 1..=255 {
                heap.flip(at, mask);
                for asked in [Kind::Data, Kind::Entry, Kind::Free] {
                    assert!(block_at(&heap.heap(), block.at, asked).is_err(), "byte {at}, {mask:#x}, as {asked:?}");
                }
                assert!(matches!(scan(&heap.heap()), Err(Error::Corrupt(_))), "byte {at}, {mask:#x}");
                heap.flip(at, mask);
            }
        }
        assert!(scan(&heap.heap()).is_ok());
    }
}

#[test]
fn a_heap_whose_blocks_do_not_tile_it_is_refused() {
    let mut heap = Fixture::new();
    let last = (heap.allocate(64), heap.allocate(64)).1;
    let end = heap.used();
    for used in [end - 16, end - 32, end + 16, end + 64, 4096] {
        heap.change(|tx, _| tx.set_used(used)).unwrap();
        assert!(matches!(scan(&heap.heap()), Err(Error::Corrupt(_))), "{used}");
    }
    heap.change(|tx, _| tx.set_used(last.at - 16)).unwrap();
    assert_eq!(scan(&heap.heap()).unwrap().data.len(), 1);
}

/// Random sizes for a long time: payloads never overlap, their bytes stay, the walk finds exactly the blocks in use, and
/// the heap does not creep up.
#[test]
fn blocks_never_overlap_and_space_comes_back() {
    let mut heap = Fixture::new();
    let mut live: BTreeMap<u64, (Block, Kind, u8)> = BTreeMap::new();
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..3000_u32 {
        if live.len() < 8 && (live.is_empty() || next(3) > 0) {
            let (bytes, fill) = (next(200), round as u8);
            let kind = if next(2) == 0 { Kind::Data } else { Kind::Entry };
            assert_eq!(missing(&heap.heap(), &heap.holes, bytes).unwrap(), 0, "round {round}");
            let block = heap.change(|tx, holes| {
                let block = allocate(tx, holes, bytes, kind)?;
                tx.store(block.at, &vec![fill; block.bytes as usize]).map(|()| block)
            });
            let block = block.unwrap();
            assert_eq!(block.bytes, bytes.next_multiple_of(16));
            assert!(live.insert(block.at, (block, kind, fill)).is_none());
        } else {
            let at = *live.keys().nth(next(live.len() as u64) as usize).unwrap();
            heap.free(live.remove(&at).unwrap().0);
        }
        heap.check();
        for (block, _, fill) in live.values() {
            let mut found = vec![0; block.bytes as usize];
            heap.heap().load(block.at, &mut found);
            assert!(found.iter().all(|byte| byte == fill), "round {round}: {block:?} was overwritten");
        }
        let all = scan(&heap.heap()).unwrap();
        let of =
            |kind| live.values().filter(|(_, found, _)| *found == kind).map(|(block, ..)| *block).collect::<Vec<_>>();
        assert!(all.data == of(Kind::Data) && all.entries == of(Kind::Entry), "round {round}");
    }
    assert!(heap.used() < 8 * 224 * 2, "{} bytes", heap.used());
    live.values().for_each(|(block, ..)| heap.free(*block));
    assert_eq!((heap.used(), heap.holes.bytes()), (START, 0));
}

/// `missing` has seen room, and then somebody else changed the length in use.
#[test]
fn a_heap_that_has_become_too_full_meanwhile_is_damage() {
    let mut heap = Fixture::new();
    let allocated = heap.change(|tx, holes| {
        tx.set_used(tx.heap_bytes()).unwrap();
        allocate(tx, holes, 16, Kind::Data)
    });
    assert!(matches!(allocated, Err(Error::Corrupt(_))), "{allocated:?}");
}
