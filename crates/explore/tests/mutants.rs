//! Each flush and each fence of the code is passed by some shape, and missed when it is removed.

use plinius_explore::{mutants, sites};

#[test]
fn each_flush_and_fence_is_missed() {
    let mutants = mutants::all().unwrap();
    let (in_sources, passed) = (sites::in_sources(), mutants::places(&mutants));
    assert!(in_sources.len() > 15, "{in_sources:?}");
    assert!(in_sources.is_subset(&passed), "not passed: {:?}", in_sources.difference(&passed));
    let survivors: Vec<String> = mutants
        .iter()
        .filter(|mutant| mutant.caught_by().is_none())
        .map(|mutant| format!("{}: {}", mutant.kind.name(), mutant.defect))
        .collect();
    assert_eq!(survivors, [""; 0], "of {} mutants", mutants.len());
}
