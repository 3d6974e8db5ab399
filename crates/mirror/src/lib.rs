//! Sealing into extents and opening from them, chunk by chunk in private memory, in parallel.
//!
//! This is the only crate that knows both the medium and the keys; where extents lie in a pool it is told. The two rules
//! of untrusted memory live here: a ciphertext is made in private memory before it is stored, and copied into private
//! memory before it is checked.

#![forbid(unsafe_code)]

pub mod bound;
mod chunk;
mod error;
mod reading;
mod records;
mod watching;
mod writing;

pub use chunk::{BufferName, CHUNK_BYTES, Context, SealedBuffer, are_apart};
pub use error::{Error, Result};
pub use plinius_medium::{Source, Target};
pub use reading::Reading;
pub use records::{RecordReader, RecordShape, seal_records};
pub use watching::{Watch, fingerprints};
pub use writing::Writing;
