//! Reserving, growing and giving back: whose the space of a pool is.

use plinius_pm::{EXTENT_ALIGN, Reserved};

use super::*;

#[test]
fn a_pool_grows_as_needed_and_no_further_than_it_may() {
    let max_bytes = Some(EMPTY_POOL_BYTES + (64 << 10));
    let region = Recording::default();
    let pool = Pool::over(region.clone(), Options { max_bytes, ..OPTIONS }).unwrap();
    let before = put(&pool, "a", &[20_000]);
    let full = pool.reserve(&[60_000]).err().unwrap();
    assert!(matches!(full, Error::Full { needed_bytes: 61_440, .. }), "{full}");
    assert_eq!(pool.entry("a").unwrap().extents, before);
    let larger = Pool::over(Recording::holding(&region.bytes()), OPTIONS).unwrap();
    put(&larger, "b", &[60_000]);
    assert_eq!(larger.entry("a").unwrap().extents, before);
}

#[test]
fn a_medium_that_is_full_leaves_the_pool_as_it_was() {
    let (region, pool) = in_memory();
    put(&pool, "a", &[20_000]);
    region.limit(region.len());
    let before = (pool.bytes(), pool.entries());
    assert!(matches!(pool.reserve(&[20_000, 100_000]), Err(Error::Full { .. })));
    assert_eq!((pool.bytes(), pool.entries()), before);
    put(&pool, "b", &[20_000]);
}

#[test]
fn impossible_sizes_are_refused() {
    let (_, pool) = in_memory();
    assert!(matches!(pool.reserve(&[100, 0]), Err(Error::Misuse(_))));
    for sizes in [&[u64::MAX][..], &[1 << 63, 1 << 63], &[(1 << 40) + 1]] {
        let folder = Scratch::new();
        let refused = open(&folder.path("a.pool")).reserve(sizes).err();
        assert!(matches!(refused, Some(Error::Full { .. })), "{sizes:?}: {refused:?}");
    }
    assert!(pool.reserve(&[]).unwrap().extents().is_empty());
}

#[test]
fn a_dropped_reservation_gives_its_space_back() {
    let (_, pool) = in_memory();
    put(&pool, "a", &[1]);
    let before = free_bytes(&pool);
    let reserved = pool.reserve(&[8_192, 1]).unwrap();
    assert_eq!(free_bytes(&pool), before - 3 * EXTENT_ALIGN);
    drop(reserved);
    assert_eq!(free_bytes(&pool), before);
}

#[test]
fn replacing_an_entry_frees_what_it_no_longer_has() {
    let (_, pool) = in_memory();
    let old = put(&pool, "a", &[4_096, 8_192]);
    let before = free_bytes(&pool);
    let reserved = pool.reserve(&[4_096]).unwrap();
    let kept = vec![old[1], reserved.extents()[0]];
    pool.commit(&entry("a", kept.clone()), reserved).unwrap();
    assert_eq!(free_bytes(&pool), before);
    assert_eq!(pool.reserve(&[1]).unwrap().extents()[0].offset, old[0].offset);
    pool.commit(&entry("a", vec![]), pool.reserve(&[]).unwrap()).unwrap();
    assert_eq!(free_bytes(&pool), before + 3 * EXTENT_ALIGN);
}

#[test]
fn a_thousand_commits_need_the_space_of_two() {
    let (_, pool) = in_memory();
    put(&pool, "other", &[3_000]);
    for round in 0..1_000 {
        put(&pool, "a", &[50_000, 300, 10_000 + round % 50]);
    }
    assert!(pool.bytes().0 <= EMPTY_POOL_BYTES + 3 * (64 << 10), "{} bytes", pool.bytes().0);
}

#[test]
fn an_entry_owns_what_was_reserved_for_it_once_and_nothing_else() {
    let (region, pool) = in_memory();
    let other = put(&pool, "other", &[5_000])[0];
    let before = (region.bytes(), pool.bytes());
    let wrong = |extents: &dyn Fn(&Reserved<Recording>) -> Vec<Extent>| {
        let reserved = pool.reserve(&[100, 200]).unwrap();
        let extents = extents(&reserved);
        let refused = pool.commit(&entry("a", extents.clone()), reserved);
        assert!(matches!(refused, Err(Error::Misuse(_))), "{extents:?}");
    };
    wrong(&|reserved| [reserved.extents(), vec![other]].concat());
    wrong(&|reserved| vec![reserved.extents()[0]; 2]);
    wrong(&|reserved| [reserved.extents(), vec![reserved.extents()[1]]].concat());
    wrong(&|reserved| vec![reserved.extents()[1]]);
    wrong(&|reserved| reserved.extents().iter().map(|extent| Extent { bytes: 50, ..*extent }).collect());
    wrong(&|_| vec![Extent { offset: 0, bytes: 4096 }]);
    assert!((region.bytes(), pool.bytes()) == before, "a refused commit changed the pool");
}

#[test]
fn reservations_are_written_inside_and_read_inside() {
    let (_, pool) = in_memory();
    let reserved = pool.reserve(&[100]).unwrap();
    for (index, at, len) in [(0, 1, 100), (0, 101, 0), (0, u64::MAX, 1), (1, 0, 1), (usize::MAX, 0, 0)] {
        assert!(matches!(reserved.write(index, at, &vec![0; len]), Err(Error::Misuse(_))), "{index} {at} {len}");
    }
    let extent = reserved.extents()[0];
    for (extent, at, len) in [
        (extent, 1, 100),
        (extent, u64::MAX, 1),
        (Extent { offset: u64::MAX, ..extent }, 0, 1),
        (Extent { offset: 1 << 20, ..extent }, 0, 1),
        (Extent { bytes: u64::MAX, ..extent }, 1 << 40, 1),
    ] {
        assert!(matches!(pool.read(extent, at, &mut vec![0; len]), Err(Error::Corrupt(_))), "{extent:?} {at} {len}");
    }
}

#[test]
fn joined_reservations_are_committed_together() {
    let (_, pool) = in_memory();
    let joined = pool.reserve(&[100, 200]).unwrap().join(pool.reserve(&[300]).unwrap());
    let extents = joined.extents();
    assert_eq!(extents.iter().map(|extent| extent.bytes).collect::<Vec<_>>(), [100, 200, 300]);
    pool.commit(&entry("a", extents.clone()), joined).unwrap();
    assert_eq!(pool.entry("a").unwrap().extents, extents);
}
