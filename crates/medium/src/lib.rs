//! The medium of a pool: a file that is mapped, and the instructions that make what is stored there durable.
//!
//! All that the trusted process needs of a pool: it streams sealed bytes into extents and copies them out again. Where
//! these lie, `plinius-pm` says. This crate knows bytes only, and nothing of what they mean.

mod claims;
mod error;
mod extent;
mod file;
mod medium;
mod memory;
mod persist;
mod region;
#[cfg(test)]
#[path = "../tests/scratch/mod.rs"]
mod scratch;
mod sigbus;
mod space;

pub use claims::Claim;
pub use error::{Error, Result};
pub use extent::{EXTENT_ALIGN, Extent};
pub use file::{MAX_POOL_BYTES, MappedFile, OpenFile, PAGE, accepts_map_sync};
pub use medium::{Durability, KnownMedium, Medium};
pub use memory::{Source, Target};
pub use persist::Flush;
pub use region::{LINE, Region, load_u64};
