use std::collections::BTreeSet;

use super::*;

const PAGES: u64 = 40;
const HEAP_BYTES: u64 = PAGES * LOG_PAGE_BYTES;

fn log(heap_bytes: u64) -> LineLog {
    let mut log = LineLog::default();
    log.cover(heap_bytes);
    log
}

fn logged(stores: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut log = log(HEAP_BYTES);
    stores.iter().for_each(|(at, len)| log.add(*at, *len));
    log.ranges().collect()
}

/// The lines of all ranges; none is there twice.
fn lines(log: &LineLog) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for (at, len) in log.ranges() {
        assert!(at.is_multiple_of(LINE) && len.is_multiple_of(LINE) && len > 0, "{len} bytes at {at}");
        assert_eq!(at / LOG_PAGE_BYTES, (at + len - 1) / LOG_PAGE_BYTES, "{len} bytes at {at} leave their page");
        (at..at + len).step_by(LINE as usize).for_each(|line| assert!(found.insert(line), "the line at {line} twice"));
    }
    found
}

#[test]
fn a_store_is_logged_as_the_whole_lines_that_it_touches() {
    assert_eq!(logged(&[(64, 1)]), [(64, 64)]);
    assert_eq!(logged(&[(65, 63)]), [(64, 64)]);
    assert_eq!(logged(&[(65, 64)]), [(64, 128)]);
    assert_eq!(logged(&[(60, 8)]), [(0, 128)]);
    assert_eq!(logged(&[(0, LOG_PAGE_BYTES)]), [(0, LOG_PAGE_BYTES)]);
}

#[test]
fn a_store_of_nothing_is_not_logged() {
    assert_eq!(logged(&[(0, 0), (64, 0), (HEAP_BYTES - 1, 0), (HEAP_BYTES, 0)]), []);
}

#[test]
fn lines_inside_a_page_that_touch_are_one_range() {
    assert_eq!(logged(&[(128, 8), (0, 8), (64, 8), (130, 8)]), [(0, 192)]);
    assert_eq!(logged(&[(0, 64), (128, 64)]), [(0, 64), (128, 64)]);
}

#[test]
fn a_range_ends_with_its_page() {
    let page = LOG_PAGE_BYTES;
    assert_eq!(logged(&[(page - 1, 2)]), [(page - 64, 64), (page, 64)]);
    assert_eq!(logged(&[(page - 64, 64)]), [(page - 64, 64)]);
    assert_eq!(logged(&[(64, 3 * page)]), [(64, page - 64), (page, page), (2 * page, page), (3 * page, 64)]);
}

#[test]
fn the_last_line_of_the_heap_is_logged() {
    assert_eq!(logged(&[(HEAP_BYTES - 1, 1)]), [(HEAP_BYTES - 64, 64)]);
    assert_eq!(logged(&[(0, HEAP_BYTES)]).len() as u64, PAGES);
}

#[test]
#[should_panic(expected = "out of bounds")]
fn a_store_outside_of_what_is_covered_is_never_lost_in_silence() {
    log(HEAP_BYTES).add(HEAP_BYTES, 1);
}

#[test]
fn a_heap_that_grows_keeps_what_was_logged() {
    let mut log = log(LOG_PAGE_BYTES);
    log.add(100, 8);
    log.cover(3 * LOG_PAGE_BYTES);
    log.add(2 * LOG_PAGE_BYTES, 8);
    assert_eq!(log.ranges().collect::<Vec<_>>(), [(64, 64), (2 * LOG_PAGE_BYTES, 64)]);
}

/// Random stores of all sizes: the ranges are what a set of lines would be, as few as there can be inside the pages, and
/// what was cleared leaves nothing for the next round.
#[test]
fn the_ranges_are_the_lines_that_were_stored_to() {
    let mut log = log(HEAP_BYTES);
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..200 {
        let mut expected = BTreeSet::new();
        for _ in 0..next(40) {
            let at = next(HEAP_BYTES);
            let longest = [1, 9, 200, 3 * LOG_PAGE_BYTES][next(4) as usize];
            let len = next(longest + 1).min(HEAP_BYTES - at);
            log.add(at, len);
            expected.extend(
                (0..HEAP_BYTES).step_by(LINE as usize).filter(|line| *line < at + len && at < *line + LINE && len > 0),
            );
        }
        let found = lines(&log);
        assert_eq!(found, expected, "round {round}");
        let begins = |line: &u64| line.is_multiple_of(LOG_PAGE_BYTES) || !found.contains(&(line - LINE));
        assert_eq!(log.ranges().count(), found.iter().filter(|line| begins(line)).count(), "round {round}");
        log.clear();
        assert_eq!(log.ranges().count(), 0, "round {round}");
    }
    assert!(log.bits.iter().all(|bits| *bits == 0));
}
