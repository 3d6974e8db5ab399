//! A pool that is made, and one that is opened for the first time.

use super::{Shape, a_and_b, nothing, update};

pub const SHAPES: &[Shape] = &[
    Shape { name: "create the pool", before: None, program: |stage| stage.report(&stage.open()?), is_large: false },
    Shape {
        // Nothing is fenced between the last superblock of the creation and the first of the growth.
        name: "create the pool, which grows at once",
        before: None,
        program: |stage| {
            let pool = stage.open()?;
            stage.report(&pool)?;
            drop(pool.reserve(&[100])?);
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "open for the first time, then update",
        before: Some(a_and_b),
        program: |stage| {
            let pool = stage.open()?;
            stage.report(&pool)?;
            update(&pool, "a", &[(0, 9)])?;
            stage.report(&pool)
        },
        is_large: false,
    },
    Shape {
        name: "open an empty pool",
        before: Some(nothing),
        program: |stage| stage.report(&stage.open()?),
        is_large: false,
    },
];
