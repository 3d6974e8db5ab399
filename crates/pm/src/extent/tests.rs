use std::sync::Arc;

use super::*;
use crate::twins::{HeapMap, Segment};

const START: u64 = 20_480;
const PAGES: u64 = 10;

fn layout(pages: u64) -> Superblock {
    let layout = Superblock { pool_bytes: START + pages * EXTENT_ALIGN, ..Superblock::new([0; 16], 4096).unwrap() };
    assert_eq!(layout.extents_offset(), START);
    layout
}

fn extent(page: u64, bytes: u64) -> Extent {
    Extent { offset: START + page * EXTENT_ALIGN, bytes }
}

fn around(extents: &[Extent]) -> Result<FreeSpace> {
    FreeSpace::around(extents.iter().copied(), &layout(PAGES))
}

/// The same in a pool whose heap has a further segment, both of its parts together so many pages long.
fn around_segment(extents: &[Extent], page: u64, pages: u64) -> Result<FreeSpace> {
    let layout = layout(PAGES);
    let segment = Segment { offset: extent(page, 1).offset, bytes: pages * EXTENT_ALIGN / 2 };
    let heap = Arc::new(HeapMap::new([layout.heap.segments(), &[segment]].concat()));
    FreeSpace::around(extents.iter().copied(), &Superblock { heap, ..layout })
}

#[test]
fn an_extent_outside_the_pool_or_out_of_line_is_refused() {
    let layout = layout(2);
    assert!(checked(extent(0, 2 * EXTENT_ALIGN), &layout).is_ok());
    let wrong = [
        extent(0, 2 * EXTENT_ALIGN + 1),
        extent(2, 1),
        extent(0, 0),
        extent(0, u64::MAX),
        Extent { offset: START + 8, bytes: 8 },
        Extent { offset: START - EXTENT_ALIGN, bytes: 8 },
        Extent { offset: u64::MAX - EXTENT_ALIGN + 1, bytes: EXTENT_ALIGN },
    ];
    for extent in wrong {
        assert!(matches!(checked(extent, &layout), Err(Error::Corrupt(_))), "{extent:?}");
        assert!(matches!(FreeSpace::around([extent].into_iter(), &layout), Err(Error::Corrupt(_))), "{extent:?}");
    }
}

#[test]
fn extents_that_share_a_page_overlap() {
    assert!(around(&[extent(0, 4096), extent(1, 4096)]).is_ok());
    assert!(around(&[extent(1, 4096), extent(0, 4097)]).is_err());
    assert!(around(&[extent(1, 10), extent(1, 10)]).is_err());
}

#[test]
fn a_further_segment_of_the_heap_is_not_free_and_nobodys_extent() {
    assert_eq!(around_segment(&[], 2, 4).unwrap().bytes(), (PAGES - 4) * EXTENT_ALIGN);
    assert!(around_segment(&[extent(0, 8192), extent(6, 1)], 2, 4).is_ok());
    for overlapping in [extent(1, 4097), extent(2, 1), extent(5, 1)] {
        assert!(matches!(around_segment(&[overlapping], 2, 4), Err(Error::Corrupt(_))), "{overlapping:?}");
    }
    assert!(around_segment(&[], 8, 4).is_err());
    let mut free = around_segment(&[], 2, 4).unwrap();
    assert_eq!(free.take(2 * EXTENT_ALIGN), Some(extent(0, 2 * EXTENT_ALIGN)));
    assert_eq!(free.take(4 * EXTENT_ALIGN), Some(extent(6, 4 * EXTENT_ALIGN)));
    assert_eq!(free.take(1), None);
}

#[test]
fn what_extents_leave_is_free() {
    assert_eq!(around(&[]).unwrap().bytes(), 10 * EXTENT_ALIGN);
    assert_eq!(around(&[extent(2, 1), extent(9, 4096)]).unwrap().bytes(), 8 * EXTENT_ALIGN);
    assert_eq!(around(&[extent(0, 10 * EXTENT_ALIGN)]).unwrap().bytes(), 0);
}

#[test]
fn the_smallest_hole_that_fits_is_taken() {
    // Holes: pages 0 to 4, 6 to 7, and 9.
    let mut free = around(&[extent(5, 1), extent(8, 1)]).unwrap();
    assert_eq!(free.take(4096), Some(extent(9, 4096)));
    assert_eq!(free.take(4097), Some(extent(6, 4097)));
    assert_eq!(free.take(1), Some(extent(0, 1)));
    assert_eq!(free.take(5 * EXTENT_ALIGN), None);
    assert_eq!(free.take(4 * EXTENT_ALIGN), Some(extent(1, 4 * EXTENT_ALIGN)));
    assert_eq!((free.take(1), free.bytes()), (None, 0));
}

#[test]
fn a_size_beyond_all_numbers_does_not_fit() {
    assert_eq!(around(&[]).unwrap().take(u64::MAX), None);
}

#[test]
fn neighbours_merge_whatever_the_order_in_which_they_come_back() {
    for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
        let mut free = around(&[]).unwrap();
        let taken: Vec<Extent> = (0..3).map(|_| free.take(3 * EXTENT_ALIGN - 5).unwrap()).collect();
        order.iter().for_each(|index| free.give(taken[*index]));
        assert_eq!(free.bytes(), 10 * EXTENT_ALIGN, "{order:?}");
        assert_eq!(free.take(10 * EXTENT_ALIGN), Some(extent(0, 10 * EXTENT_ALIGN)), "{order:?}");
    }
}

#[test]
fn what_the_pool_grows_by_joins_the_hole_at_its_end() {
    let mut free = around(&[extent(0, 8 * EXTENT_ALIGN)]).unwrap();
    free.add(START + PAGES * EXTENT_ALIGN, 0);
    free.add(START + PAGES * EXTENT_ALIGN, 3 * EXTENT_ALIGN);
    assert_eq!(free.take(5 * EXTENT_ALIGN), Some(extent(8, 5 * EXTENT_ALIGN)));
}
