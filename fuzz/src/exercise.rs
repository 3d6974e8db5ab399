//! All that is done to a pool file, whatever it holds, and what must come of it.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use plinius_pm::{Entry, Error, Options, Pool, Report, Result, Snapshot, Status};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::memory::Memory;
use crate::pools::bulk;

const OPTIONS: Options =
    Options { max_bytes: None, heap_bytes: 4096, pool_id: *b"made of any file", flush: None, require: None };

type Opened = Arc<Pool<Memory>>;

/// An entry, the block that it names, and its extents.
type Item = (Entry, Option<Vec<u8>>, Vec<Vec<u8>>);

thread_local! {
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Opens, reads, verifies, changes, and opens again. Returns what the catalog held, if the file is a pool.
pub fn pool(file: &[u8]) -> Option<Vec<Entry>> {
    let region = Memory::holding(file);
    let opened = Pool::over(region.clone(), OPTIONS).map_err(assert_damage).ok()?;
    let entries = opened.entries();
    let report = looked_over(&opened);
    if report.problems.is_empty() {
        check_whole(&opened, &region, &report);
    } else {
        use_damaged(&opened, &report);
    }
    Some(entries)
}

/// Opens a pool that is whole, has somebody change the file then, and goes on using it.
pub fn tampered(file: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let region = Memory::holding(file);
    let opened = Pool::over(region.clone(), OPTIONS).expect("the pools that fuzzing starts from are whole");
    region.tamper(change);
    let report = looked_over(&opened);
    use_damaged(&opened, &report);
}

/// Reads the file as one does who does not hold its lock.
pub fn status(file: &[u8]) -> Option<Status> {
    FILE.with_borrow_mut(|memory| {
        let memory = memory.get_or_insert_with(|| {
            memfd_create("pool", MemfdFlags::empty()).expect("the system has files in memory").into()
        });
        memory.set_len(0).expect("a file in memory can be emptied");
        memory.write_all_at(file, 0).expect("a file in memory can be written");
        Status::attempt(memory).map_err(assert_damage).ok()
    })
}

/// Nothing else may come of a file, whatever it holds.
fn assert_damage(error: Error) {
    let damage = matches!(error, Error::Corrupt(_) | Error::NotAPool(_) | Error::Version { .. });
    assert!(damage, "not an error of a damaged file: {error:?}");
}

fn looked_over(pool: &Opened) -> Report {
    pool.verify().expect("a pool that is open can be looked over")
}

/// A pool in which `verify` finds nothing is as good as new.
fn check_whole(pool: &Opened, region: &Memory, report: &Report) {
    let mut expected = contents(pool, report).expect("a whole pool can be read");
    let stats = pool.stats().expect("a whole pool can be counted");
    assert_eq!(stats.entries, expected.len() as u64);
    for step in [roll_back, change, grow] {
        match step(pool) {
            Ok(Changes { put, removed }) => {
                expected.retain(|(entry, ..)| Some(&entry.name) != removed.as_ref());
                expected.extend(put);
            }
            Err(Error::Full { .. }) => {}
            Err(error) => panic!("a whole pool cannot be changed: {error:?}"),
        }
    }
    expected.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    assert_whole(pool, &expected);
    let again = Pool::over(Memory::holding(&region.bytes()), OPTIONS).expect("a whole pool can be opened again");
    assert_whole(&again, &expected);
}

/// Whatever is wrong with a pool that could be opened: no panic, and no error of a medium, for it has none.
fn use_damaged(pool: &Opened, report: &Report) {
    let read = [contents(pool, report).map(drop), pool.stats().map(drop)];
    let written = [roll_back, change, grow].map(|step| step(pool).map(drop));
    for error in read.into_iter().chain(written).filter_map(Result::err) {
        assert!(!matches!(error, Error::Io { .. } | Error::Busy { .. }), "{error:?}");
    }
    looked_over(pool);
}

fn assert_whole(pool: &Opened, expected: &[Item]) {
    let report = looked_over(pool);
    assert!(report.problems.is_empty(), "a whole pool was broken: {report:?}");
    let found = contents(pool, &report).expect("a whole pool can be read");
    assert!(found == expected, "{:?} instead of {:?}", names(&found), names(expected));
}

fn names(items: &[Item]) -> Vec<&Entry> {
    items.iter().map(|(entry, ..)| entry).collect()
}

/// Everything in the pool, and the blocks that no entry names are read as well.
fn contents(pool: &Opened, report: &Report) -> Result<Vec<Item>> {
    let snapshot = pool.snapshot()?;
    let read_extents = |entry: &Entry| {
        let extents = entry.extents.iter().map(|extent| {
            let mut bytes = vec![0; usize::try_from(extent.bytes).expect("an extent fits the file")];
            pool.read(*extent, 0, &mut bytes).map(|()| bytes)
        });
        extents.collect::<Result<Vec<_>>>()
    };
    let mut items = Vec::new();
    for entry in pool.entries() {
        let block = if entry.block == 0 { None } else { Some(read_block(&snapshot, entry.block)?) };
        let extents = read_extents(&entry)?;
        items.push((entry, block, extents));
    }
    for block in &report.blocks {
        read_block(&snapshot, *block)?;
    }
    Ok(items)
}

fn read_block(snapshot: &Snapshot<Memory>, at: u64) -> Result<Vec<u8>> {
    let block = snapshot.block(at)?;
    let mut bytes = vec![0; usize::try_from(block.bytes()).expect("a block fits the file")];
    snapshot.load(block, 0, &mut bytes)?;
    Ok(bytes)
}

/// What a transaction did to the catalog.
#[derive(Default)]
struct Changes {
    put: Vec<Item>,
    removed: Option<String>,
}

/// A transaction of several stores that is not committed.
fn roll_back(pool: &Opened) -> Result<Changes> {
    let mut tx = pool.transaction()?;
    for at in pool.entries().iter().map(|entry| entry.block).filter(|at| *at != 0) {
        let block = tx.block(at)?;
        tx.store(block, 0, &vec![0xff; block.bytes() as usize])?;
        tx.free(at)?;
    }
    tx.create(&[0xff; 300])?;
    Ok(Changes::default())
}

/// Puts an entry that names a block; removes one and frees the block that it named. The heap may have to grow for it.
fn change(pool: &Opened) -> Result<Changes> {
    let (entries, name) = (pool.entries(), unused_name(pool));
    let mut tx = pool.transaction()?;
    // More than the smallest heap has.
    let (block, large) = (tx.create(&[0x5a; 96])?, tx.allocate(4500)?);
    let place = tx.block(large)?;
    tx.store_word(place, 8, block)?;
    assert_eq!(tx.load_word(place, 8)?, block);
    tx.set(&name, b"meta", block)?;
    let removed = entries.into_iter().find(|entry| entry.extents.is_empty()).map(|entry| entry.name);
    if let Some(removed) = &removed {
        let old = tx.remove(removed)?.expect("an entry of the catalog is there");
        if old.block != 0 {
            tx.free(old.block)?;
        }
    }
    tx.free(large)?;
    tx.commit()?;
    let entry = Entry { name, meta: b"meta".to_vec(), block, extents: Vec::new() };
    Ok(Changes { put: vec![(entry, Some(vec![0x5a; 96]), vec![])], removed })
}

/// Puts an entry that owns extents. The pool may have to grow for it.
fn grow(pool: &Opened) -> Result<Changes> {
    let name = unused_name(pool);
    bulk(pool, &name, &[5000])?;
    let entry = pool.entry(&name).expect("an entry is there when it was committed");
    Ok(Changes { put: vec![((*entry).clone(), None, vec![vec![9; 5000]])], removed: None })
}

fn unused_name(pool: &Opened) -> String {
    let mut name = "fuzz".to_owned();
    while pool.entry(&name).is_some() {
        name.push('+');
    }
    name
}
