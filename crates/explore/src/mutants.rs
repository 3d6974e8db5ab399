//! Mutants: programs that lack one flush or one fence, or have another defect. The explorer has to find each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::explorer::explore;
use crate::medium::{Kind, Removed};
use crate::plan::{Plan, Width};
use crate::pool::PoolSubject;
use crate::record::Fault;
use crate::shapes::{self, Shape};
use crate::sites::Place;

/// What a mutant has done to it.
#[derive(Clone, Copy, Debug)]
pub enum Defect {
    /// A flush or a fence is removed.
    Removed(Removed),
    /// Something else.
    Fault(Fault),
}

impl fmt::Display for Defect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed(Removed { site, thread }) => {
                write!(out, "{}:{}", site.file(), site.line())?;
                thread.map_or(Ok(()), |thread| write!(out, ", worker {thread}"))
            }
            Self::Fault(fault) => write!(out, "{fault:?}"),
        }
    }
}

/// A mutant on a medium, and the shapes that pass what it lacks.
pub struct Mutant {
    /// The medium.
    pub kind: Kind,
    /// What is wrong.
    pub defect: Defect,
    shapes: Vec<&'static Shape>,
}

impl Mutant {
    /// The first shape that finds it.
    pub fn caught_by(&self) -> Option<&'static str> {
        let (removed, fault) = match self.defect {
            Defect::Removed(removed) => (Some(removed), None),
            Defect::Fault(fault) => (None, Some(fault)),
        };
        let finds = |plan: &Plan, shape: &Shape| match shape.record(fault) {
            Ok(recording) => explore(&PoolSubject, plan, &recording).violation.is_some(),
            // What a kill leaves is wrong already.
            Err(_) => true,
        };
        let plans = |shape: &Shape| {
            // Most are found at once, so that a quick look at all shapes comes first.
            let quick = quick(self.kind);
            [Plan { go_on_from: 0, ..quick.clone() }, quick, shape.plan(self.kind)]
        };
        (0..3).find_map(|depth| {
            let plan = |shape| Plan { removed, fault, ..plans(shape)[depth].clone() };
            self.shapes.iter().find(|shape| finds(&plan(shape), shape)).map(|shape| shape.name)
        })
    }
}

fn quick(kind: Kind) -> Plan {
    let width = Width { all: 64, samples: 16 };
    Plan { program: width, recovery: width, most_crashes: 2, go_on_from: 2, ..Plan::exhaustive(kind) }
}

/// All mutants, from what the shapes pass.
pub fn all() -> Result<Vec<Mutant>, String> {
    let mut passed: BTreeMap<Removed, (bool, Vec<&'static Shape>)> = BTreeMap::new();
    for shape in shapes::all() {
        let report = explore(&PoolSubject, &quick(Kind::Lines), &shape.record(None)?);
        for (removed, is_sync) in report.sites {
            passed.entry(removed).or_insert((is_sync, Vec::new())).1.push(shape);
        }
    }
    let mut mutants = Vec::new();
    for (removed, (is_sync, shapes)) in passed {
        // On an ordinary file the others mean nothing.
        let kinds = if is_sync { &[Kind::Lines, Kind::File][..] } else { &[Kind::Lines] };
        let on = |kind: &Kind| Mutant { kind: *kind, defect: Defect::Removed(removed), shapes: shapes.clone() };
        mutants.extend(kinds.iter().map(on));
    }
    for fault in [Fault::CopyLost, Fault::RangeForgotten, Fault::WordEarly] {
        for kind in [Kind::Lines, Kind::File] {
            mutants.push(Mutant { kind, defect: Defect::Fault(fault), shapes: shapes::all().collect() });
        }
    }
    Ok(mutants)
}

/// The lines of code that the mutants lack.
pub fn places(mutants: &[Mutant]) -> BTreeSet<Place> {
    let removed = mutants.iter().filter_map(|mutant| match mutant.defect {
        Defect::Removed(removed) => Some(removed.site),
        Defect::Fault(_) => None,
    });
    removed.map(|site| (site.file().to_owned(), site.line())).collect()
}
