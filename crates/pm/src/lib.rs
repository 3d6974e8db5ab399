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
mod lock;
mod medium;
mod persist;
mod pool;
#[cfg(test)]
#[path = "../tests/recording/mod.rs"]
mod recording;
mod region;
mod romulus;
mod status;
mod superblock;

pub use catalog::Entry;
pub use error::{Error, Result};
pub use extent::{EXTENT_ALIGN, Extent};
pub use medium::{Durability, Medium};
pub use persist::Flush;
pub use pool::{Options, Pool, Reserved};
pub use region::Region;
pub use romulus::{Heap, State};
pub use status::{Status, medium_of};
