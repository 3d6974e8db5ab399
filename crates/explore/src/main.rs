//! `plinius-explore campaign IMAGES SEED`: all images of the shapes, then so many different ones of random programs.
//! `plinius-explore mutants`: whether each missing flush and fence is found.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use plinius_explore::campaign;
use plinius_explore::explorer::explore;
use plinius_explore::medium::Kind;
use plinius_explore::mutants;
use plinius_explore::pool::PoolSubject;
use plinius_explore::shapes;
use plinius_explore::sites;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["campaign", images, seed] => match (images.parse(), seed.parse()) {
            (Ok(images), Ok(seed)) => explore_shapes().and_then(|()| explore_programs(images, seed)),
            _ => Err("IMAGES and SEED are numbers".into()),
        },
        ["mutants"] => try_mutants(),
        _ => Err("usage: plinius-explore campaign IMAGES SEED, or plinius-explore mutants".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn explore_shapes() -> Result<(), String> {
    for shape in shapes::all() {
        for kind in [Kind::Lines, Kind::File] {
            let start = Instant::now();
            let report = explore(&PoolSubject, &shape.plan(kind), &shape.record(None)?);
            println!("{}", report.line(shape.name, kind, start.elapsed()));
            report.violation.map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

fn explore_programs(images: u64, seed: u64) -> Result<(), String> {
    let start = Instant::now();
    let tell = |progress: &campaign::Progress| {
        if progress.programs.is_multiple_of(200) {
            println!("{}", progress.line(start.elapsed()));
        }
    };
    let progress = campaign::run_all(images, seed, &tell);
    println!("{}", progress.line(start.elapsed()));
    match progress.violation {
        Some((seed, story)) => Err(format!("the program of seed {seed} (campaign 1 {seed} repeats it):\n{story}")),
        None => Ok(()),
    }
}

fn try_mutants() -> Result<(), String> {
    let mutants = mutants::all()?;
    let mut missed = Vec::new();
    for mutant in &mutants {
        let caught_by = mutant.caught_by();
        println!("{:<12} {:<48} {}", mutant.kind.name(), mutant.defect.to_string(), caught_by.unwrap_or("NOT CAUGHT"));
        missed.extend(caught_by.is_none().then_some(mutant));
    }
    println!("{} of {} mutants caught", mutants.len() - missed.len(), mutants.len());
    let unpassed: Vec<sites::Place> = sites::in_sources().difference(&mutants::places(&mutants)).cloned().collect();
    match (missed.is_empty(), unpassed.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err("what the mutants lack that are not caught is needless, or a shape is missing".into()),
        (_, false) => Err(format!("no shape passes {unpassed:?}")),
    }
}
