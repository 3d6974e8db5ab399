//! The crash explorer of `plinius-pm`: programs run on a pool in memory that records, every image that a crash may leave of
//! it is made, recovered from, and held against what was committed. For development only; nothing depends on it.
//!
//! `record` writes down what happens, `medium` says what of it may be lost, `choice` lists the images, `explorer` tries
//! them, `pool` knows what a pool holds. `shapes` are the programs that are explored to the end, `campaign` makes larger
//! ones by chance, `mutants` removes each flush and fence to see that it is missed.

pub mod campaign;
pub mod choice;
pub mod explorer;
pub mod image;
pub mod medium;
pub mod mutants;
pub mod plan;
pub mod pool;
pub mod record;
pub mod shapes;
pub mod sites;
pub mod stage;
pub mod story;
mod walk;
