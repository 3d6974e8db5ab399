//! Every image of every shape, on each medium. `--nocapture` shows how many there are.

use std::time::Instant;

use plinius_explore::explorer::explore;
use plinius_explore::medium::Kind;
use plinius_explore::pool::PoolSubject;
use plinius_explore::shapes;

fn explore_all(kind: Kind) {
    let mut distinct = 0;
    for shape in shapes::all() {
        let start = Instant::now();
        let report = explore(&PoolSubject, &shape.plan(kind), &shape.record(None).unwrap());
        println!("{}", report.line(shape.name, kind, start.elapsed()));
        assert_eq!(report.violation, None, "{}", shape.name);
        assert!(shape.is_large || report.sampled_points == 0, "{} has become too large to try all", shape.name);
        distinct += report.seen.len();
    }
    assert!(distinct > 50_000, "{distinct} images");
}

#[test]
fn every_image_of_persistent_memory_is_recovered_from() {
    explore_all(Kind::Lines);
}

#[test]
fn every_image_of_an_ordinary_file_is_recovered_from() {
    explore_all(Kind::File);
}
