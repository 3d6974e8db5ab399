//! What to explore and how far, and what was explored.

use std::collections::HashMap;
use std::time::Duration;

use crate::image::{Hash, Pass};
use crate::medium::{Kind, Removed};
use crate::record::Fault;

/// What to explore, and how far.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The medium.
    pub kind: Kind,
    /// A mutant's.
    pub removed: Option<Removed>,
    /// A mutant's.
    pub fault: Option<Fault>,
    /// At each point of the program.
    pub program: Width,
    /// At each point of a recovery.
    pub recovery: Width,
    /// So many crashes one inside the recovery from the other, behind the first.
    pub most_crashes: u32,
    /// Of the media that recoveries leave, so many of each class are gone on from, and crashed while that is done. A class
    /// has the same contents and the same pending writes.
    pub go_on_from: u32,
    /// For what is sampled.
    pub seed: u64,
}

/// How many images of a point are tried.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    /// All of them, up to this many.
    pub all: u64,
    /// Of more than that, so many by chance.
    pub samples: u64,
}

impl Plan {
    /// Everything.
    pub fn exhaustive(kind: Kind) -> Self {
        let width = Width { all: 1 << 20, samples: 0 };
        let (program, recovery, most_crashes) = (width, width, u32::MAX);
        Self { kind, removed: None, fault: None, program, recovery, most_crashes, go_on_from: 32, seed: 0 }
    }
}

/// The images that were seen, and the number of what each holds.
pub type Seen = HashMap<Hash, u32, Pass>;

/// What was explored.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Images that were made, each as often as a point leaves it.
    pub images: u64,
    /// The different ones. Each was recovered from and checked.
    pub seen: Seen,
    /// How many of them come from the program and its recoveries; the others from going on after those.
    pub crashed: u64,
    /// Points whose images were too many to try all.
    pub sampled_points: u64,
    /// The flushes and fences that were passed, those of workers for each of them, and whether a file is synced there.
    pub sites: HashMap<Removed, bool>,
    /// The first image that is wrong, and how it came about.
    pub violation: Option<String>,
}

impl Report {
    /// All that matters, in one line.
    pub fn line(&self, name: &str, kind: Kind, took: Duration) -> String {
        let Self { images, seen, sampled_points, violation, .. } = self;
        let (violations, extent) = (u32::from(violation.is_some()), if *sampled_points == 0 { "all" } else { "some" });
        let (kind, distinct, took) = (kind.name(), seen.len(), took.as_secs_f64());
        format!(
            "{name:<52} {kind:<12} {extent} {images:>8} images, {distinct:>6} different, {violations} violations, {took:.1} s"
        )
    }
}
