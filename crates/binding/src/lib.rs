//! What the two bindings share: the memory and the descriptors of Python code, extents as tuples, and the errors of a pool as
//! Python's.

mod descriptor;
pub mod errors;
mod extents;
mod memory;

pub use descriptor::borrow;
pub use extents::{ExtentTuple, extent, extents, tuples};
pub use memory::Borrowed;
