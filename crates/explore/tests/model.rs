//! Which images the model of the medium allows: counted by hand for small programs.

use std::collections::BTreeSet;
use std::thread;

use plinius_explore::choice::{Chance, Choices, sample};
use plinius_explore::medium::{Kind, Medium};
use plinius_explore::record::Recorder;
use plinius_pm::Region;

/// All images that a crash leaves at the end of a program over 256 bytes of zeros, by their words that are not zero.
type Images = BTreeSet<Vec<(u64, u64)>>;

fn medium_after(kind: Kind, program: impl FnOnce(&Recorder)) -> Medium {
    let region = Recorder::holding(vec![0; 256]);
    program(&region);
    let log = region.take();
    let mut medium = Medium::of_file(kind, None, vec![0; 256]);
    log.events.iter().for_each(|event| medium.apply(event, &log));
    medium
}

fn words(bytes: &[u8]) -> Vec<(u64, u64)> {
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    (0..).step_by(8).zip(words).filter(|(_, word)| *word != 0).collect()
}

fn all(medium: &Medium) -> Images {
    let choices = Choices::list(medium, 1 << 20).expect("few images");
    let mut images = Images::new();
    choices.each(medium.hash(), &mut |hash, picked| {
        let bytes = medium.image(hash, picked.words()).bytes();
        assert_eq!(hash, plinius_explore::image::hash(&bytes), "a hash that was kept up is the hash of the bytes");
        images.insert(words(&bytes));
    });
    assert_eq!(images.len() as u64, choices.count(), "each image is there once");
    images
}

fn lines(program: impl FnOnce(&Recorder)) -> Images {
    all(&medium_after(Kind::Lines, program))
}

fn file(program: impl FnOnce(&Recorder)) -> Images {
    all(&medium_after(Kind::File, program))
}

fn images<const N: usize>(images: [&[(u64, u64)]; N]) -> Images {
    images.into_iter().map(<[_]>::to_vec).collect()
}

fn word(region: &Recorder, at: u64, value: u64) {
    region.store(at, &value.to_le_bytes());
}

/// Words 1, 2, 3, ... one behind the other.
fn count(words: u64) -> Vec<u8> {
    (1..=words).flat_map(u64::to_le_bytes).collect()
}

#[test]
fn the_stores_of_one_line_keep_their_order() {
    let found = lines(|region| (word(region, 8, 1), word(region, 0, 2)).1);
    assert_eq!(found, images([&[], &[(8, 1)], &[(0, 2), (8, 1)]]));
}

#[test]
fn the_stores_of_two_lines_do_not() {
    let found = lines(|region| (word(region, 0, 1), word(region, 64, 2)).1);
    assert_eq!(found, images([&[], &[(0, 1)], &[(64, 2)], &[(0, 1), (64, 2)]]));
}

#[test]
fn the_words_of_a_wide_store_come_in_any_order_and_before_the_next_store() {
    let found = lines(|region| (region.store(0, &count(2)), word(region, 16, 7)).1);
    let whole: &[_] = &[(0, 1), (8, 2), (16, 7)];
    assert_eq!(found, images([&[], &[(0, 1)], &[(8, 2)], &[(0, 1), (8, 2)], whole]));
}

#[test]
fn a_store_to_a_part_of_a_word_leaves_the_rest_of_it() {
    let found = lines(|region| (word(region, 0, u64::MAX), region.store(6, &[0, 0, 5])).1);
    let (before, cut) = ((0, u64::MAX), (0, u64::MAX >> 16));
    assert_eq!(found, images([&[], &[before], &[cut], &[before, (8, 5)], &[cut, (8, 5)]]));
}

#[test]
fn what_was_written_back_and_fenced_is_certain() {
    let found = lines(|region| {
        word(region, 0, 1);
        word(region, 64, 2);
        region.pwb(0, 8);
        word(region, 8, 3);
        region.pfence().unwrap();
    });
    assert_eq!(found, images([&[(0, 1)], &[(0, 1), (8, 3)], &[(0, 1), (64, 2)], &[(0, 1), (8, 3), (64, 2)]]));
}

#[test]
fn a_fence_without_a_write_back_and_a_write_back_without_a_fence_make_nothing_certain() {
    let fenced = lines(|region| (word(region, 0, 1), region.pfence().unwrap()).1);
    let written_back = lines(|region| (word(region, 0, 1), region.pwb(0, 8)).1);
    assert_eq!(fenced, images([&[], &[(0, 1)]]));
    assert_eq!(written_back, fenced);
}

#[test]
fn a_write_back_reaches_over_all_lines_of_its_range() {
    let found = lines(|region| (region.store(56, &count(10)), region.pwb(120, 16), region.pfence().unwrap()).2);
    let certain: BTreeSet<_> = found.iter().map(|image| image.iter().filter(|(at, _)| *at >= 64).count()).collect();
    assert_eq!((found.len(), certain), (2, BTreeSet::from([9])));
}

#[test]
fn a_fence_is_its_own_threads() {
    let found = lines(|region| {
        word(region, 0, 1);
        region.pwb(0, 8);
        region.stream(64, &count(1));
        thread::scope(|scope| drop(scope.spawn(|| region.pfence().unwrap())));
    });
    assert_eq!(found.len(), 4);
    let own = lines(|region| (word(region, 0, 1), region.pwb(0, 8), region.thread_fence()).2);
    assert_eq!(own, images([&[(0, 1)]]));
}

#[test]
fn a_thread_may_write_back_what_another_has_stored() {
    let found = lines(|region| {
        thread::scope(|scope| drop(scope.spawn(|| word(region, 0, 1))));
        region.pwb(0, 8);
        region.pfence().unwrap();
    });
    assert_eq!(found, images([&[(0, 1)]]));
}

#[test]
fn streamed_words_come_in_any_order_until_the_fence() {
    assert_eq!(lines(|region| region.stream(0, &count(8))).len(), 256);
    let fenced = lines(|region| (region.stream(0, &count(8)), region.thread_fence()).1);
    assert_eq!(fenced.len(), 1);
}

#[test]
fn a_streamed_word_takes_the_place_of_what_was_stored_before() {
    let found = lines(|region| {
        region.store(0, &count(2));
        region.stream(0, &7_u64.to_le_bytes());
        region.pfence().unwrap();
    });
    // The other word of the store is as uncertain as it was; its own can not come back.
    assert_eq!(found, images([&[(0, 7)], &[(0, 7), (8, 2)]]));
}

#[test]
fn a_store_behind_a_streamed_word_may_overtake_it() {
    let found = lines(|region| (region.stream(0, &count(1)), word(region, 8, 2), word(region, 0, 3)).2);
    let all: &[&[_]] = &[&[], &[(0, 1)], &[(8, 2)], &[(0, 1), (8, 2)], &[(0, 3), (8, 2)]];
    assert_eq!(found, all.iter().map(|image| image.to_vec()).collect());
}

#[test]
fn copies_are_streamed() {
    let found = lines(|region| {
        region.store(0, &count(8));
        region.pwb(0, 64);
        region.pfence().unwrap();
        region.copy(0, 128, 64);
    });
    assert_eq!(found.len(), 256);
}

#[test]
fn a_word_of_a_file_is_any_that_was_there_since_the_last_sync() {
    let found = file(|region| {
        word(region, 8, 9);
        region.psync().unwrap();
        word(region, 8, 1);
        word(region, 0, 2);
        word(region, 8, 3);
        region.pwb(0, 64);
        region.thread_fence();
    });
    assert_eq!(found.len(), 6);
    assert!(found.contains(&vec![(0, 2), (8, 9)]), "a later store may come before an earlier one");
}

#[test]
fn a_sync_of_a_file_is_for_all_threads() {
    let found = file(|region| {
        word(region, 0, 1);
        thread::scope(|scope| drop(scope.spawn(|| region.pfence().unwrap())));
    });
    assert_eq!(found, images([&[(0, 1)]]));
}

#[test]
fn a_sample_is_one_of_all() {
    for kind in [Kind::Lines, Kind::File] {
        let medium = medium_after(kind, |region| {
            region.store(0, &count(3));
            word(region, 0, 7);
            region.stream(64, &count(2));
            region.store(60, &[1; 8]);
            word(region, 128, 1);
        });
        let possible = all(&medium);
        let mut chance = Chance::new(1);
        let sampled: Images = (0..20_000).map(|_| words(&sample(&medium, &mut chance).bytes())).collect();
        assert!(sampled.is_subset(&possible), "{kind:?}");
        assert!(sampled.len() * 10 >= possible.len() * 9, "{kind:?}: {} of {}", sampled.len(), possible.len());
    }
}
