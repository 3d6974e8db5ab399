//! A short campaign; `make crash-campaign` is the long one.

use plinius_explore::campaign::{explore_program, run_all};

#[test]
fn random_programs_are_recovered_from() {
    let progress = run_all(20_000, 1_000_000, &|_| {});
    assert_eq!(progress.violation, None);
    assert!(progress.distinct >= 20_000);
}

#[test]
fn a_seed_gives_the_same_images_again() {
    let [mut one, mut other] = [(); 2].map(|()| explore_program(7).unwrap());
    one.sort_unstable();
    other.sort_unstable();
    assert_eq!(one, other);
}
