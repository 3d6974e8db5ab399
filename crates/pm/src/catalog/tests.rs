use super::*;
use plinius_medium::Region;

use crate::alloc::{Kind, allocate, scan};
use crate::holes::Holes;
use crate::recording::Recording;
use crate::romulus::{Log, Mutation, format};
use crate::superblock::Superblock;
use crate::twins::{Half, Twin};

struct Fixture {
    region: Recording,
    layout: Superblock,
    log: Log,
}

impl Fixture {
    fn new() -> Self {
        let layout = Superblock::new([0; 16], 1 << 20).unwrap();
        let region = Recording::holding(&vec![0; layout.pool_bytes as usize]);
        format(&region, &layout.heap);
        let mut log = Log::default();
        log.lines.cover(1 << 20);
        Self { region, layout, log }
    }

    /// Writes a block of a kind, and returns where its payload lies.
    fn block(&mut self, kind: Kind, bytes: &[u8]) -> Block {
        let mut tx = Mutation { region: &self.region, map: &self.layout.heap, log: &mut self.log };
        let block = allocate(&mut tx, &mut Holes::default(), bytes.len() as u64, kind).unwrap();
        tx.store(block.at, bytes).unwrap();
        tx.make_durable().unwrap();
        tx.copy_to_back().unwrap();
        block
    }

    fn put(&mut self, entry: &Entry) -> Block {
        self.block(Kind::Entry, &entry.encode().unwrap())
    }

    fn read(&self) -> Result<Index> {
        let heap = Half { region: &self.region, map: &self.layout.heap, twin: Twin::Main };
        read(&heap, &scan(&heap).unwrap())
    }
}

fn entry(name: &str, extents: u64) -> Entry {
    let extent = |index| Extent { offset: index * 4096, bytes: index + 1 };
    Entry { name: name.into(), meta: vec![9; 10], block: 0, extents: (0..extents).map(extent).collect() }
}

#[test]
fn an_entry_comes_back_as_it_was_put() {
    let mut catalog = Fixture::new();
    let data = catalog.block(Kind::Data, &[1; 30]);
    let odd = Entry { name: "mirror/é".into(), meta: (0..=255).collect(), block: data.at, extents: vec![] };
    let long = Entry { name: "x".repeat(255), meta: vec![], ..entry("", 1) };
    let all = [entry("a", 5), odd, long];
    let holders = all.each_ref().map(|entry| catalog.put(entry));
    let index = catalog.read().unwrap();
    assert_eq!(index.len(), 3);
    for (entry, holder) in all.iter().zip(holders) {
        assert_eq!(index.get(&entry.name).map(|found| (&*found.entry, found.holder)), Some((entry, holder)));
    }
}

#[test]
fn an_empty_heap_has_an_empty_catalog() {
    let mut catalog = Fixture::new();
    assert_eq!(catalog.read().unwrap().len(), 0);
    catalog.block(Kind::Data, &entry("a", 0).encode().unwrap());
    assert_eq!(catalog.read().unwrap().len(), 0, "a user's bytes passed for an entry");
}

#[test]
fn a_name_has_1_to_255_bytes() {
    for name in [String::new(), "x".repeat(256), "é".repeat(128)] {
        assert!(matches!(entry(&name, 0).encode(), Err(Error::Misuse(_))), "{name}");
    }
    for name in ["x".to_owned(), "x".repeat(255), "é".repeat(127)] {
        assert_eq!(Entry::parse(&entry(&name, 0).encode().unwrap()).unwrap().name, name);
    }
}

#[test]
fn an_entry_longer_than_any_is_refused_on_both_ways() {
    let fixed = FIXED_BYTES + 1;
    assert!(Entry { meta: vec![0; MAX_ENTRY_BYTES - fixed], ..entry("a", 0) }.encode().is_ok());
    let refused = Entry { meta: vec![0; MAX_ENTRY_BYTES - fixed + 1], ..entry("a", 0) }.encode();
    assert!(matches!(refused, Err(Error::Misuse(_))));
    let catalog = Fixture::new();
    let heap = Half { region: &catalog.region, map: &catalog.layout.heap, twin: Twin::Main };
    let holder = Block { at: 80, bytes: MAX_ENTRY_BYTES as u64 + 16 };
    let refused = read(&heap, &Scan { entries: vec![holder], ..Scan::default() });
    assert!(matches!(refused, Err(Error::Corrupt(_))), "its bytes were read");
}

#[test]
fn a_name_is_there_once() {
    let mut catalog = Fixture::new();
    catalog.put(&entry("a", 0));
    catalog.put(&entry("b", 0));
    assert!(catalog.read().is_ok());
    catalog.put(&entry("a", 2));
    assert!(matches!(catalog.read(), Err(Error::Corrupt(_))));
}

#[test]
fn an_entry_names_a_users_block_and_no_two_the_same() {
    let mut catalog = Fixture::new();
    let data = catalog.block(Kind::Data, &[1; 64]);
    let holder = catalog.put(&Entry { block: data.at, ..entry("a", 0) });
    let hole = catalog.block(Kind::Free, &[0; 64]);
    assert!(catalog.read().is_ok());
    let wrong = [data.at, data.at + 16, data.at - 16, holder.at, hole.at, 1, 64, hole.at + 64, 1 << 40, u64::MAX];
    for block in wrong {
        let mut catalog = Fixture::new();
        assert_eq!(catalog.block(Kind::Data, &[1; 64]), data);
        assert_eq!(catalog.put(&Entry { block: data.at, ..entry("a", 0) }), holder);
        assert_eq!(catalog.block(Kind::Free, &[0; 64]), hole);
        catalog.put(&Entry { block, ..entry("b", 0) });
        assert!(matches!(catalog.read(), Err(Error::Corrupt(_))), "{block}");
    }
}

#[test]
fn a_damaged_entry_is_not_left_out() {
    let mut catalog = Fixture::new();
    catalog.put(&entry("a", 1));
    let holder = catalog.put(&entry("b", 1));
    let (offset, _) = catalog.layout.heap.locate(Twin::Main, holder.at + 40);
    catalog.region.store(offset, &[0xee]);
    assert!(matches!(catalog.read(), Err(Error::Corrupt(_))));
}

#[test]
fn every_changed_bit_of_an_entry_is_seen() {
    let body = Entry { block: 4711, ..entry("a name", 3) }.encode().unwrap();
    for bit in 0..body.len() * 8 {
        let mut changed = body.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Entry::parse(&changed).is_err(), "bit {bit}");
    }
    (0..body.len()).for_each(|cut| assert!(Entry::parse(&body[..cut]).is_err(), "cut at {cut}"));
}

/// A right checksum over `changed`.
fn checked(mut changed: Vec<u8>, bytes: usize) -> Vec<u8> {
    let check = crc32fast::hash(&changed[4..bytes]);
    changed[..4].copy_from_slice(&check.to_le_bytes());
    changed
}

#[test]
fn lengths_beyond_the_entry_are_refused_even_with_a_right_checksum() {
    let body = entry("a name", 3).encode().unwrap();
    assert!(Entry::parse(&checked(body.clone(), body.len())).is_ok());
    for (at, len) in [(4, 4), (8, 8), (16, 8)] {
        for value in [u64::MAX, 1 << 60, 1 << 31, 4096] {
            let mut changed = body.clone();
            changed[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            assert!(Entry::parse(&checked(changed, body.len())).is_err(), "{value} at {at}");
        }
    }
}

#[test]
fn an_impossible_name_is_refused_even_with_a_right_checksum() {
    let named = |name: &[u8]| {
        let mut body = Entry { meta: vec![], ..entry("a", 0) }.encode().unwrap();
        body.truncate(FIXED_BYTES);
        body[4..8].copy_from_slice(&(name.len() as u32).to_le_bytes());
        body.extend(name);
        let bytes = body.len();
        Entry::parse(&checked(body, bytes))
    };
    assert_eq!(named(b"a").unwrap().name, "a");
    for name in [&b""[..], &[b'x'; 256], &[0xff, 0xfe], "é".as_bytes().split_at(1).0] {
        assert!(matches!(named(name), Err(Error::Corrupt(_))), "{name:?}");
    }
}

/// A block is up to 15 bytes longer than what it holds.
#[test]
fn what_lies_behind_an_entry_in_its_block_is_not_part_of_it() {
    let body = entry("a", 2).encode().unwrap();
    assert_eq!(Entry::parse(&[&body[..], &[0xff; 15]].concat()).unwrap(), entry("a", 2));
}
