use std::collections::BTreeMap;

use super::*;
use crate::recording::Recording;
use crate::romulus::{MainHeap, format};
use crate::superblock::Superblock;

const BLOCKS_START: u64 = HEAP_HEADER_BYTES;

struct Fixture {
    region: Recording,
    layout: Superblock,
}

impl Fixture {
    fn new() -> Self {
        let layout = Superblock::new([0; 16], 4096);
        let region = Recording::holding(&vec![0; layout.pool_bytes as usize]);
        format(&region, &layout);
        Self { region, layout }
    }

    fn change<T>(&self, work: impl FnOnce(&mut Transaction<'_, Recording>) -> T) -> T {
        let mut tx = Transaction::begin(&self.region, &self.layout);
        let result = work(&mut tx);
        tx.commit().unwrap();
        result
    }

    fn allocate(&self, bytes: u64) -> u64 {
        self.change(|tx| allocate(tx, bytes)).unwrap()
    }

    fn free(&self, payload: u64) -> Result<()> {
        self.change(|tx| free(tx, payload))
    }

    fn heap(&self) -> MainHeap<'_, Recording> {
        MainHeap::new(&self.region, &self.layout)
    }
}

#[test]
fn blocks_follow_each_other_in_multiples_of_sixteen_bytes() {
    let heap = Fixture::new();
    assert_eq!(heap.allocate(1), BLOCKS_START + 16);
    assert_eq!(heap.allocate(17), BLOCKS_START + 48);
    assert_eq!(heap.allocate(0), BLOCKS_START + 96);
    assert_eq!(heap.heap().used().unwrap(), BLOCKS_START + 112);
}

#[test]
fn a_freed_block_is_used_again_and_split() {
    let heap = Fixture::new();
    let first = heap.allocate(100);
    heap.allocate(16);
    let used = heap.heap().used().unwrap();
    heap.free(first).unwrap();
    assert_eq!(heap.allocate(32), first);
    assert_eq!(heap.allocate(32), first + 48);
    assert_eq!(heap.heap().used().unwrap(), used);
}

#[test]
fn a_rest_too_small_for_a_block_stays_with_its_block() {
    let heap = Fixture::new();
    let first = heap.allocate(32);
    heap.allocate(16);
    heap.free(first).unwrap();
    assert_eq!(heap.allocate(16), first);
    assert_eq!(block_at(&heap.heap(), first).unwrap().payload_bytes, 32);
}

#[test]
fn free_neighbours_become_one_block() {
    let heap = Fixture::new();
    let blocks: Vec<u64> = (0..4).map(|_| heap.allocate(16)).collect();
    let used = heap.heap().used().unwrap();
    [1, 0, 2].iter().for_each(|index| heap.free(blocks[*index]).unwrap());
    assert_eq!(heap.allocate(3 * 16 + 2 * 16), blocks[0]);
    assert_eq!(heap.heap().used().unwrap(), used);
}

#[test]
fn a_block_is_freed_once() {
    let heap = Fixture::new();
    let block = heap.allocate(16);
    heap.free(block).unwrap();
    assert!(matches!(heap.free(block), Err(Error::Corrupt(_))));
}

#[test]
fn only_a_block_is_freed() {
    let heap = Fixture::new();
    heap.allocate(64);
    for payload in [0, 1, 16, BLOCKS_START, BLOCKS_START + 32, 4096, u64::MAX - 15, u64::MAX] {
        assert!(matches!(heap.free(payload), Err(Error::Corrupt(_))), "{payload}");
    }
}

#[test]
fn a_full_heap_says_what_it_needs_and_has() {
    let heap = Fixture::new();
    heap.allocate(4096 - BLOCKS_START - 16 - 48);
    let full = heap.change(|tx| allocate(tx, 48)).unwrap_err();
    assert!(matches!(full, Error::Full { needed_bytes: 64, free_bytes: 48, .. }), "{full}");
    assert!(heap.change(|tx| allocate(tx, u64::MAX - 15)).is_err());
    heap.allocate(32);
    assert_eq!(heap.heap().used().unwrap(), 4096);
}

/// Random sizes for a long time: payloads never overlap, their bytes stay, and the heap does not creep up.
#[test]
fn blocks_never_overlap_and_space_comes_back() {
    let heap = Fixture::new();
    let mut live: BTreeMap<u64, (u64, u8)> = BTreeMap::new();
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..3000_u32 {
        if live.len() < 8 {
            let (bytes, fill) = (1 + next(200), round as u8);
            let payload = heap.change(|tx| {
                let payload = allocate(tx, bytes)?;
                tx.store(payload, &vec![fill; bytes as usize]).map(|()| payload)
            });
            live.insert(payload.unwrap(), (bytes, fill));
        } else {
            let payload = *live.keys().nth(next(8) as usize).unwrap();
            heap.free(payload).unwrap();
            live.remove(&payload);
        }
        for (&payload, &(bytes, fill)) in &live {
            let mut found = vec![0; bytes as usize];
            heap.heap().load(payload, &mut found);
            assert!(found.iter().all(|byte| *byte == fill), "round {round}: the block at {payload} was overwritten");
        }
    }
    live.keys().for_each(|payload| heap.free(*payload).unwrap());
    let used = heap.heap().used().unwrap();
    assert!(used < 8 * 216 * 2, "{used} bytes");
    assert_eq!(heap.allocate(used - BLOCKS_START - 16), BLOCKS_START + 16);
}
