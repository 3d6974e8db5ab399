//! The binding `plinius._pm`: pools, for whoever owns their files. It converts arguments and errors, and releases the GIL.
//!
//! Nothing in it knows a key. The process that does, and need not be the one that owns the pool, has `plinius._core`.

mod bench;
mod pool;
mod reservation;
mod runs;
mod snapshot;
mod swaps;
mod transaction;

use pyo3::prelude::*;

#[pymodule]
mod _pm {
    #[pymodule_export]
    use crate::bench::swaps;
    #[pymodule_export]
    use crate::pool::{Lent, Pool, cpu_write_back, medium_of, status};
    #[pymodule_export]
    use crate::reservation::{Reservation, read_extent};
    #[pymodule_export]
    use crate::snapshot::Snapshot;
    #[pymodule_export]
    use crate::transaction::{Scope, Transaction};
}
