//! What the two bindings share: the memory of Python objects, and the errors of a pool as Python's.

pub mod errors;
mod memory;

pub use memory::Borrowed;
