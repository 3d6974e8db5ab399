//! The bulk space: growth, extents, and the flip from one generation of a mirror to the next.

use super::{Done, Shape, nothing};
use crate::pool::Recorded;
use plinius_pm::Entry;

/// Puts an entry with an extent of 16 bytes.
fn generation(pool: &Recorded, fill: u8) -> Done {
    let reserved = pool.reserve(&[16])?;
    reserved.write(0, 0, &[fill; 16])?;
    let entry = Entry { name: "m".into(), meta: vec![fill], block: 0, extents: reserved.extents() };
    pool.commit(&entry, reserved)
}

fn first_generation(pool: &Recorded) -> Done {
    generation(pool, 1)
}

pub const SHAPES: &[Shape] = &[
    Shape {
        // Nothing is fenced between the superblocks of the two.
        name: "grow twice",
        before: Some(nothing),
        program: |stage| {
            let pool = stage.open()?;
            for bytes in [100, 70_000] {
                drop(pool.reserve(&[bytes])?);
                stage.report(&pool)?;
            }
            Ok(())
        },
        is_large: false,
    },
    Shape {
        name: "allocate the first extent, for which the pool grows",
        before: Some(nothing),
        program: |stage| {
            let pool = stage.open()?;
            generation(&pool, 7)?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "flip a mirror",
        before: Some(first_generation),
        program: |stage| {
            let pool = stage.open()?;
            generation(&pool, 2)?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        // The third generation lies where the first lay.
        name: "flip a mirror twice",
        before: Some(first_generation),
        program: |stage| {
            let pool = stage.open()?;
            for fill in [2, 3] {
                generation(&pool, fill)?;
                stage.report(&pool)?;
            }
            Ok(())
        },
        is_large: false,
    },
    Shape {
        name: "reserve and give back, then flip",
        before: Some(first_generation),
        program: |stage| {
            let pool = stage.open()?;
            let reserved = pool.reserve(&[16])?;
            reserved.write(0, 0, &[9; 16])?;
            drop(reserved);
            stage.report(&pool)?;
            generation(&pool, 2)?;
            stage.report(&pool)
        },
        is_large: false,
    },
];
