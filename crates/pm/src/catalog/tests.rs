use super::*;
use crate::recording::Recording;
use crate::romulus::{HEAP_HEADER_BYTES, MainHeap, format};
use crate::superblock::Superblock;

struct Fixture {
    region: Recording,
    layout: Superblock,
}

impl Fixture {
    fn new() -> Self {
        let layout = Superblock::new([0; 16], 8192);
        let region = Recording::holding(&vec![0; layout.pool_bytes as usize]);
        format(&region, &layout);
        Self { region, layout }
    }

    fn of(names: &[&str]) -> Self {
        let fixture = Self::new();
        names.iter().for_each(|name| drop(fixture.put(&entry(name, 3))));
        fixture
    }

    fn change<T>(&self, work: impl FnOnce(&mut Transaction<'_, Recording>) -> Result<T>) -> Result<T> {
        let mut tx = Transaction::begin(&self.region, &self.layout);
        let result = work(&mut tx)?;
        tx.commit()?;
        Ok(result)
    }

    fn put(&self, entry: &Entry) -> Result<Option<Entry>> {
        self.change(|tx| put(tx, entry))
    }

    fn remove(&self, name: &str) -> Result<Option<Entry>> {
        self.change(|tx| remove(tx, name))
    }

    fn names(&self) -> Vec<String> {
        read(&self.heap()).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    fn heap(&self) -> MainHeap<'_, Recording> {
        MainHeap::new(&self.region, &self.layout)
    }

    fn overwrite(&self, at: u64, word: u64) {
        self.region.store(self.layout.main_offset + at, &word.to_le_bytes());
    }
}

fn entry(name: &str, extents: u64) -> Entry {
    let extent = |index| Extent { offset: index * 4096, bytes: index + 1 };
    Entry { name: name.into(), meta: vec![9; 10], extents: (0..extents).map(extent).collect() }
}

#[test]
fn an_entry_comes_back_as_it_was_put() {
    let catalog = Fixture::new();
    let odd = Entry { name: "mirror/é".into(), meta: (0..=255).collect(), extents: vec![] };
    assert_eq!(catalog.put(&entry("a", 5)).unwrap(), None);
    assert_eq!(catalog.put(&odd).unwrap(), None);
    assert_eq!(read(&catalog.heap()).unwrap(), [odd, entry("a", 5)]);
}

#[test]
fn putting_replaces_and_returns_the_old_entry() {
    let catalog = Fixture::of(&["a", "b", "c"]);
    assert_eq!(catalog.put(&entry("b", 7)).unwrap(), Some(entry("b", 3)));
    assert_eq!(catalog.names(), ["b", "c", "a"]);
}

#[test]
fn entries_are_removed_from_every_place() {
    for name in ["a", "b", "c"] {
        let catalog = Fixture::of(&["a", "b", "c"]);
        assert_eq!(catalog.remove(name).unwrap(), Some(entry(name, 3)));
        assert!(catalog.names().len() == 2 && !catalog.names().contains(&name.into()));
        assert_eq!(catalog.remove(name).unwrap(), None);
    }
}

#[test]
fn a_name_has_1_to_255_bytes() {
    let catalog = Fixture::new();
    for name in [String::new(), "x".repeat(256)] {
        assert!(matches!(catalog.put(&entry(&name, 0)), Err(Error::Misuse(_))));
    }
    assert!(catalog.put(&entry(&"x".repeat(255), 0)).is_ok());
}

#[test]
fn a_thousand_replacements_take_no_more_room_than_a_few() {
    let catalog = Fixture::of(&["a", "b"]);
    for round in 0..1000 {
        catalog.put(&entry("a", round % 40)).unwrap();
        catalog.put(&entry("b", round % 7)).unwrap();
        catalog.put(&entry("c", 2)).unwrap();
        catalog.remove("c").unwrap();
        assert!(catalog.heap().used().unwrap() < 4096, "round {round}");
    }
}

#[test]
fn an_entry_that_does_not_fit_leaves_the_old_one() {
    let catalog = Fixture::of(&["a"]);
    let large = Entry { meta: vec![1; 8192], ..entry("a", 0) };
    assert!(matches!(catalog.put(&large), Err(Error::Full { .. })));
    assert_eq!(read(&catalog.heap()).unwrap(), [entry("a", 3)]);
}

#[test]
fn a_catalog_that_runs_in_a_circle_is_damaged() {
    let catalog = Fixture::of(&["a", "b", "c"]);
    let first = catalog.heap().word(HEAD_OFFSET);
    let last = HEAP_HEADER_BYTES + 16;
    assert_eq!((catalog.heap().word(last), first > last), (0, true));
    catalog.overwrite(last, first);
    assert!(matches!(read(&catalog.heap()), Err(Error::Corrupt(_))));
}

/// An entry as large as the heap that follows itself: whoever walks it must stop before memory or patience ends.
#[test]
fn a_large_circle_ends_at_once() {
    let layout = Superblock::new([0; 16], 4 << 20);
    let region = Recording::holding(&vec![0; layout.pool_bytes as usize]);
    format(&region, &layout);
    let catalog = Fixture { region, layout };
    catalog.put(&Entry { meta: vec![0; 4_000_000], ..entry("a", 0) }).unwrap();
    let only = catalog.heap().word(HEAD_OFFSET);
    catalog.overwrite(only, only);
    let begun = std::time::Instant::now();
    assert!(matches!(read(&catalog.heap()), Err(Error::Corrupt(_))));
    assert!(begun.elapsed().as_secs() < 5);
}

#[test]
fn a_link_that_skips_an_entry_is_damage() {
    let catalog = Fixture::of(&["a", "b", "c"]);
    let first = catalog.heap().word(HEAD_OFFSET);
    let second = catalog.heap().word(first);
    for (at, word) in [(HEAD_OFFSET, 0), (HEAD_OFFSET, second), (first, 0), (second, 0)] {
        let catalog = Fixture::of(&["a", "b", "c"]);
        catalog.overwrite(at, word);
        assert!(matches!(read(&catalog.heap()), Err(Error::Corrupt(_))), "{word} at {at}");
    }
}

#[test]
fn every_changed_bit_of_an_entry_is_seen() {
    let body = entry("a name", 3).encode().unwrap();
    for bit in 0..body.len() * 8 {
        let mut changed = body.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Entry::parse(&changed).is_err(), "bit {bit}");
    }
    (0..body.len()).for_each(|cut| assert!(Entry::parse(&body[..cut]).is_err(), "cut at {cut}"));
}

#[test]
fn lengths_beyond_the_entry_are_refused_even_with_a_right_checksum() {
    let body = entry("a name", 3).encode().unwrap();
    for (at, len) in [(4, 4), (8, 8), (16, 8)] {
        for value in [u64::MAX, 1 << 60, 1 << 32, 4096] {
            let mut changed = body.clone();
            changed[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            let check = crc32fast::hash(&changed[4..]);
            changed[..4].copy_from_slice(&check.to_le_bytes());
            assert!(Entry::parse(&changed).is_err() || value == 1 << 32, "{value} at {at}");
        }
    }
}
