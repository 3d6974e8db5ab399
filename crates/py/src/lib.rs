//! The binding `plinius._core`: converts arguments and errors, and releases the GIL. Nothing else happens here.

mod bench;
mod copying;
mod errors;
mod key;
mod memory;
mod mirror;
mod pool;
mod records;
mod runs;
mod sandbox;
mod snapshot;
mod swaps;
mod taken;
mod transaction;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::bench::{copy_in, copy_out, open_in_cache, seal_in_cache, swaps};
    #[pymodule_export]
    use crate::copying::{Copying, read_extent};
    #[pymodule_export]
    use crate::key::{Key, key_custody};
    #[pymodule_export]
    use crate::mirror::{Fingerprints, Reading, Source, Writing};
    #[pymodule_export]
    use crate::pool::{Medium, Pool, cpu_write_back, medium_of, status};
    #[pymodule_export]
    use crate::records::{Loading, RecordReader, seal_records};
    #[pymodule_export]
    use crate::sandbox::enter_sandbox;
    #[pymodule_export]
    use crate::snapshot::Snapshot;
    #[pymodule_export]
    use crate::taken::take;
    #[pymodule_export]
    use crate::transaction::{Scope, Transaction};
}
