//! What `plinius bench mirror` measures.

use plinius_binding::{ExtentTuple, extents};
use plinius_mirror::bound;
use pyo3::prelude::*;

use crate::errors;
use crate::key::Key;
use crate::mapping::Mapping;

/// Seconds to seal buffers of these lengths in cache.
#[pyfunction]
pub fn seal_in_cache(py: Python<'_>, key: &Key, lengths: Vec<usize>, threads: usize) -> PyResult<f64> {
    py.detach(|| bound::seal_in_cache(&key.0, &lengths, threads)).map_err(|error| errors::mirror(py, error))
}

/// Seconds to open buffers of these lengths in cache.
#[pyfunction]
pub fn open_in_cache(py: Python<'_>, key: &Key, lengths: Vec<usize>, threads: usize) -> PyResult<f64> {
    py.detach(|| bound::open_in_cache(&key.0, &lengths, threads)).map_err(|error| errors::mirror(py, error))
}

/// Seconds to copy as many bytes as extents have from private memory into them.
#[pyfunction]
pub fn copy_in(py: Python<'_>, mapping: &Mapping, into: Vec<ExtentTuple>, threads: usize) -> PyResult<f64> {
    let extents = extents(into);
    let mapped = mapping.covering(py, &extents)?;
    py.detach(|| bound::copy_in(&*mapped, &extents, threads)).map_err(|error| errors::mirror(py, error))
}

/// Seconds to copy the bytes of extents, which are written first, into private memory.
#[pyfunction]
pub fn copy_out(py: Python<'_>, mapping: &Mapping, from_: Vec<ExtentTuple>, threads: usize) -> PyResult<f64> {
    let extents = extents(from_);
    let mapped = mapping.covering(py, &extents)?;
    py.detach(|| bound::copy_out(&*mapped, &extents, threads)).map_err(|error| errors::mirror(py, error))
}
