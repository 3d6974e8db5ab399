//! The binding `plinius._core`: keys, sealing, and the pool's file as a mapping. It converts arguments and errors, and releases
//! the GIL. Nothing else happens here.
//!
//! Who has the pool, and says where extents lie, has `plinius._pm`; it need not be this process.

mod bench;
mod errors;
mod key;
mod mapping;
mod mirror;
mod records;
mod sandbox;
mod taken;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::bench::{copy_in, copy_out, open_in_cache, seal_in_cache};
    #[pymodule_export]
    use crate::key::{Key, key_custody};
    #[pymodule_export]
    use crate::mapping::{Mapping, Medium};
    #[pymodule_export]
    use crate::mirror::{Fingerprints, Reading, Source, Writing};
    #[pymodule_export]
    use crate::records::{RecordReader, seal_records};
    #[pymodule_export]
    use crate::sandbox::enter_sandbox;
    #[pymodule_export]
    use crate::taken::take;
}
