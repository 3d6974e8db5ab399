//! Damage anywhere: what is read afterwards is a typed error or exactly what was there, quickly and without a panic.

mod recording;
#[path = "../../medium/tests/scratch/mod.rs"]
mod scratch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plinius_pm::{Entry, Error, Options, Pool, State, Status};
use recording::Recording;
use scratch::Scratch;

const PAGE: usize = 4096;
const STATE: usize = 2 * PAGE;
const MAIN: usize = 3 * PAGE;
const BACK: usize = 4 * PAGE;
const EXTENTS: usize = 5 * PAGE;
/// A little more than the pool of these tests uses.
const HEAP_USED: usize = 512;
const HEAP_HEADER: usize = 64;
const OPTIONS: Options =
    Options { max_bytes: None, heap_bytes: PAGE as u64, pool_id: [7; 16], flush: None, require: None };

/// The catalog and the bytes of every extent.
type Contents = Vec<(Entry, Vec<Vec<u8>>)>;

fn contents(pool: &Arc<Pool<Recording>>) -> Result<Contents, Error> {
    let read = |entry: Entry| {
        let extents = entry.extents.iter().map(|extent| {
            let mut bytes = vec![0; usize::try_from(extent.bytes).expect("an extent fits the pool")];
            pool.read(*extent, 0, &mut bytes).map(|()| bytes)
        });
        let extents = extents.collect::<Result<_, _>>()?;
        Ok((entry, extents))
    };
    pool.entries().into_iter().map(read).collect()
}

fn open(bytes: &[u8]) -> Result<Arc<Pool<Recording>>, Error> {
    Pool::over(Recording::holding(bytes), OPTIONS)
}

fn put(pool: &Arc<Pool<Recording>>, name: &str, sizes: &[u64]) -> Result<(), Error> {
    let reserved = pool.reserve(sizes)?;
    for (index, &bytes) in sizes.iter().enumerate() {
        reserved.write(index, 0, &vec![9; bytes as usize])?;
    }
    let entry = Entry { name: name.into(), meta: name.repeat(9).into(), block: 0, extents: reserved.extents() };
    pool.commit(&entry, reserved)
}

/// A pool with three entries, one replaced and so with a hole in heap and extents.
fn pool() -> Vec<u8> {
    let region = Recording::default();
    let pool = Pool::over(region.clone(), OPTIONS).unwrap();
    for (name, sizes) in [("first", &[5_000][..]), ("second", &[1, 4_096]), ("third", &[]), ("first", &[9_000])] {
        put(&pool, name, sizes).unwrap();
    }
    region.bytes()
}

fn flipped(bytes: &[u8], at: usize, mask: u8) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] ^= mask;
    changed
}

/// Opens, reads, writes and reads again. Returns whether the damage was refused at any point.
fn survives(damaged: &[u8], expected: &Contents, what: &str) -> bool {
    let typed = |error: &Error| matches!(error, Error::Corrupt(_) | Error::NotAPool(_) | Error::Version { .. });
    let used = open(damaged).and_then(|pool| {
        assert!(contents(&pool)? == *expected, "{what}: silently other contents");
        put(&pool, "fourth", &[3_000])?;
        let after = contents(&pool)?;
        assert!(after.len() == expected.len() + 1, "{what}: a commit changed the other entries");
        assert!(after.iter().filter(|(entry, _)| entry.name != "fourth").eq(expected), "{what}: other contents");
        Ok(())
    });
    used.inspect_err(|error| assert!(typed(error), "{what}: {error}")).is_err()
}

#[test]
fn a_changed_byte_is_an_error_or_changes_nothing() {
    let begun = Instant::now();
    let whole = pool();
    let expected = contents(&open(&whole).unwrap()).unwrap();
    for at in 0..EXTENTS {
        match open(&flipped(&whole, at, 0xff)).and_then(|pool| contents(&pool)) {
            Ok(found) => assert!(found == expected, "byte {at}: silently other contents"),
            Err(error) => assert!(matches!(error, Error::Corrupt(_)), "byte {at}: {error}"),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// Both heaps in each of the three states, with a commit after the damage.
#[test]
fn a_changed_bit_of_a_heap_is_an_error_or_changes_nothing() {
    let whole = pool();
    let expected = contents(&open(&whole).unwrap()).unwrap();
    for (state, trusted) in [(State::Idle, MAIN), (State::Mutating, BACK), (State::Copying, MAIN)] {
        let mut start = whole.clone();
        start[STATE..STATE + 8].copy_from_slice(&state.word().to_le_bytes());
        let (mut refused, mut accepted) = (0, 0);
        for at in (MAIN..MAIN + HEAP_USED).chain(BACK..BACK + HEAP_USED) {
            let what = format!("{state:?}, byte {at}");
            let seen = survives(&flipped(&start, at, 1 << (at % 8)), &expected, &what);
            refused += usize::from(seen && (trusted..trusted + HEAP_USED).contains(&at));
            accepted += usize::from(!seen && !(trusted..trusted + HEAP_USED).contains(&at));
        }
        assert!(refused > 150, "{state:?}: only {refused} changes were refused");
        // While no transaction runs the headers of both copies are read and must be equal.
        let ignored = HEAP_USED - if state == State::Idle { HEAP_HEADER } else { 0 };
        assert_eq!(accepted, ignored, "{state:?}: the copy that is not trusted counts");
    }
}

/// The heap's header holds the words on which all else depends; in whichever copy it is read.
#[test]
fn every_bit_of_the_heaps_header_counts() {
    let whole = pool();
    let expected = contents(&open(&whole).unwrap()).unwrap();
    for (state, trusted) in [(State::Idle, MAIN), (State::Mutating, BACK), (State::Copying, MAIN)] {
        let mut start = whole.clone();
        start[STATE..STATE + 8].copy_from_slice(&state.word().to_le_bytes());
        for at in trusted..trusted + 96 {
            for bit in 0..8 {
                survives(&flipped(&start, at, 1 << bit), &expected, &format!("{state:?}, byte {at}, bit {bit}"));
            }
        }
    }
}

#[test]
fn a_damaged_state_word_is_refused() {
    for at in STATE..STATE + 8 {
        let refused = open(&flipped(&pool(), at, 0x10)).err();
        assert!(matches!(refused, Some(Error::Corrupt(_))), "{refused:?}");
    }
}

#[test]
fn one_damaged_superblock_is_mended_from_the_other() {
    let whole = pool();
    for at in [0, 9, 40, PAGE - 1, PAGE, PAGE + 50, 2 * PAGE - 1] {
        let region = Recording::holding(&flipped(&whole, at, 0xff));
        Pool::over(region.clone(), OPTIONS).unwrap();
        assert!(region.durable() == whole, "byte {at}");
    }
    let both = flipped(&flipped(&whole, 50, 1), PAGE + 50, 1);
    assert!(matches!(open(&both), Err(Error::Corrupt(_))));
}

/// Both superblocks with words changed and right checksums.
fn with_superblock(whole: &[u8], words: &[(usize, u64)]) -> Vec<u8> {
    let mut changed = whole.to_vec();
    for page in [0, PAGE] {
        for (at, word) in words {
            changed[page + at..page + at + 8].copy_from_slice(&word.to_le_bytes());
        }
        seal(&mut changed[page..page + PAGE]);
    }
    changed
}

/// The version and, in the upper half of its word, how many segments the heap has.
const SEGMENTS: usize = 8;
const SIZE: usize = 40;
const FIRST_SEGMENT: usize = 48;
const SECOND_SEGMENT: usize = 64;

fn segments(count: u64) -> (usize, u64) {
    (SEGMENTS, 2 | count << 32)
}

/// Superblocks with right checksums and wrong contents.
#[test]
fn an_impossible_superblock_is_refused() {
    let whole = pool();
    assert!(open(&with_superblock(&whole, &[segments(1)])).is_ok());
    for at in [SIZE, FIRST_SEGMENT, FIRST_SEGMENT + 8] {
        for value in [0, 1, 2048, 8192, 12_288 + 64, 1 << 40, 1 << 63, u64::MAX, u64::MAX - 4095] {
            let refused = open(&with_superblock(&whole, &[(at, value)])).err();
            assert!(matches!(refused, Some(Error::Corrupt(_))), "{value} at {at}: {refused:?}");
        }
    }
    for count in [0, 2, 40, 41, u64::from(u32::MAX)] {
        let refused = open(&with_superblock(&whole, &[segments(count)])).err();
        assert!(matches!(refused, Some(Error::Corrupt(_))), "{count} segments: {refused:?}");
    }
    assert!(matches!(open(&with_superblock(&whole, &[(32, u64::MAX)])), Err(Error::Corrupt(_))));
}

/// A further segment lies in free space of its own; everything else is refused, and nothing is written.
#[test]
fn an_impossible_segment_of_the_heap_is_refused() {
    let whole = pool();
    let page = PAGE as u64;
    let with = |offset: u64, bytes: u64| {
        with_superblock(&whole, &[segments(2), (SECOND_SEGMENT, offset), (SECOND_SEGMENT + 8, bytes)])
    };
    let free = whole.len() as u64 - 2 * page;
    assert!(open(&with(free, page)).is_ok());
    let extent = contents(&open(&whole).unwrap()).unwrap()[0].0.extents[0].offset;
    let wrong = [
        (extent, page),
        (extent - page, page),
        (free + page, page),
        (free + 2 * page, page),
        (free + 64, page),
        (free, page / 2),
        (free, 0),
        (free, u64::MAX - 4095),
        (u64::MAX - 4095, page),
        (0, page),
        (PAGE as u64, page),
        (MAIN as u64, page),
        (BACK as u64, page),
        (free, 1 << 63),
    ];
    for (offset, bytes) in wrong {
        let changed = with(offset, bytes);
        let region = Recording::holding(&changed);
        let refused = Pool::over(region.clone(), OPTIONS).err();
        assert!(matches!(refused, Some(Error::Corrupt(_))), "{bytes} bytes at {offset}: {refused:?}");
        assert!(region.bytes() == changed, "{bytes} bytes at {offset}: it was written");
    }
}

#[test]
fn another_format_version_is_named() {
    for version in [0, 1, 3, 77] {
        let changed = with_superblock(&pool(), &[(SEGMENTS, u64::from(version) | 1 << 32)]);
        let refused = open(&changed).err();
        assert!(matches!(refused, Some(Error::Version { found, known: 2 }) if found == version), "{refused:?}");
    }
}

/// Segments over the same bytes would make a small file a heap of any length, and a walk over it endless.
#[test]
fn segments_that_overlap_are_refused() {
    for offset in [0, 12_288, 16_384] {
        let mut changed = pool();
        for page in [0, PAGE] {
            changed[page + 12] = 2;
            changed[page + 64..page + 72].copy_from_slice(&u64::to_le_bytes(offset));
            changed[page + 72..page + 80].copy_from_slice(&4096_u64.to_le_bytes());
            seal(&mut changed[page..page + PAGE]);
        }
        assert!(matches!(open(&changed), Err(Error::Corrupt(_))), "a segment at {offset}");
    }
}

/// The count of the superblock's changes does not run over.
#[test]
fn a_pool_whose_changes_are_at_their_end_does_not_grow() {
    for left in [1, 2] {
        let mut changed = pool();
        for page in [0, PAGE] {
            changed[page + 32..page + 40].copy_from_slice(&(u64::MAX - left).to_le_bytes());
            seal(&mut changed[page..page + PAGE]);
        }
        let pool = open(&changed).unwrap();
        assert!((20..23).any(|power| matches!(pool.reserve(&[1 << power]), Err(Error::Full { .. }))), "{left} left");
    }
}

/// CRC-32 as in zlib, over all but the last four bytes.
fn seal(page: &mut [u8]) {
    let mut check = u32::MAX;
    for byte in &page[..PAGE - 4] {
        check ^= u32::from(*byte);
        (0..8).for_each(|_| check = check >> 1 ^ (0xedb8_8320 & (check & 1).wrapping_neg()));
    }
    page[PAGE - 4..].copy_from_slice(&(!check).to_le_bytes());
}

#[test]
fn a_pool_cut_at_any_page_is_refused() {
    let whole = pool();
    for len in (1..whole.len()).step_by(PAGE).chain((PAGE..whole.len()).step_by(PAGE)) {
        let folder = Scratch::new();
        let path = folder.path("a.pool");
        std::fs::write(&path, &whole[..len]).unwrap();
        let refused = Pool::open(&path, OPTIONS).err();
        assert!(matches!(refused, Some(Error::Corrupt(_) | Error::NotAPool(_))), "{len} bytes: {refused:?}");
        let status = Status::read(&path).err();
        assert!(matches!(status, Some(Error::Corrupt(_) | Error::NotAPool(_))), "{len} bytes: {status:?}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..len], "{len} bytes");
    }
}

/// A blank first page alone is a creation that was cut; a whole file of zeros is not, since it may be somebody's.
#[test]
fn a_pool_with_its_head_overwritten_is_not_created_anew() {
    let whole = pool();
    for head in [[0; 2 * PAGE], [0xff; 2 * PAGE]] {
        let changed = [&head, &whole[2 * PAGE..]].concat();
        assert!(matches!(open(&changed), Err(Error::NotAPool(_))));
    }
}

#[test]
fn damage_to_a_pool_that_is_open_is_seen_when_it_is_read_and_never_panics() {
    let whole = pool();
    for at in (MAIN..MAIN + HEAP_USED).chain(STATE..STATE + 64) {
        let region = Recording::holding(&whole);
        let pool = Pool::over(region.clone(), OPTIONS).unwrap();
        let expected = contents(&pool).unwrap();
        plinius_pm::Region::store(&region, at as u64, &[whole[at] ^ 0xff]);
        assert!(contents(&pool).unwrap() == expected, "byte {at}");
        let _ = put(&pool, "second", &[20_000]);
        if let Ok(again) = open(&region.bytes()).and_then(|pool| contents(&pool)) {
            assert_eq!(again.len(), expected.len(), "byte {at}");
        }
    }
}

/// Every byte of a file on a real medium, read without the lock.
#[test]
fn status_of_a_damaged_pool_is_an_error_or_the_truth() {
    let folder = Scratch::new();
    let path = folder.path("a.pool");
    let whole = pool();
    let expected: Vec<Entry> = contents(&open(&whole).unwrap()).unwrap().into_iter().map(|(entry, _)| entry).collect();
    for at in (0..96).chain(PAGE - 4..PAGE + 96).chain(MAIN..MAIN + 400).step_by(29) {
        std::fs::write(&path, flipped(&whole, at, 0xff)).unwrap();
        match Status::read(&path) {
            Ok(status) => assert_eq!(status.entries, expected, "byte {at}"),
            Err(error) => assert!(matches!(error, Error::Corrupt(_)), "byte {at}: {error}"),
        }
    }
}
