//! The pool: Romulus transactions over a twin heap, a catalog, extents for bulk bytes; on the file of `plinius-medium`.
//!
//! This crate knows bytes only: no key and no cipher. Nothing that it reads from a pool is trusted: a structure is
//! copied once into private memory, checked there, and only the copy is used. `docs/design.md` has every byte.

#[cfg(test)]
extern crate self as plinius_pm;

mod alloc;
mod catalog;
mod creation;
mod extent;
mod fork;
mod holes;
mod lock;
mod log;
mod opening;
mod pool;
#[cfg(test)]
#[path = "../tests/recording/mod.rs"]
mod recording;
mod reserved;
mod romulus;
mod snapshot;
mod standing;
mod status;
mod superblock;
mod transaction;
mod turn;
mod twins;
mod verify;

pub use alloc::Block;
pub use catalog::Entry;
pub use plinius_medium::{Durability, EXTENT_ALIGN, Error, Extent, Flush, MappedFile, Medium, Region, Result};
pub use pool::{Options, Pool};
pub use reserved::Reserved;
pub use romulus::State;
pub use snapshot::Snapshot;
pub use status::{Status, medium_of};
pub use transaction::Transaction;
pub use verify::{Report, Stats};
