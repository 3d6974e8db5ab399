//! Persistent memory: a pool file, Romulus transactions over a twin heap, a catalog, and extents for bulk bytes.
//!
//! This crate knows bytes only: no key and no cipher. Nothing that it reads from a pool is trusted: a structure is
//! copied once into private memory, checked there, and only the copy is used. `docs/design.md` has every byte.

#[cfg(test)]
extern crate self as plinius_pm;

mod alloc;
mod catalog;
mod creation;
mod error;
mod extent;
mod file;
mod fork;
mod holes;
mod lock;
mod log;
mod medium;
mod opening;
mod persist;
mod pool;
#[cfg(test)]
#[path = "../tests/recording/mod.rs"]
mod recording;
mod region;
mod reserved;
mod romulus;
#[cfg(test)]
#[path = "../tests/scratch/mod.rs"]
mod scratch;
mod sigbus;
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
pub use error::{Error, Result};
pub use extent::{EXTENT_ALIGN, Extent};
pub use file::MappedFile;
pub use medium::{Durability, KnownMedium, Medium};
pub use persist::Flush;
pub use pool::{Options, Pool};
pub use region::Region;
pub use reserved::Reserved;
pub use romulus::State;
pub use snapshot::Snapshot;
pub use status::{Status, medium_of};
pub use transaction::Transaction;
pub use verify::{Report, Stats};
