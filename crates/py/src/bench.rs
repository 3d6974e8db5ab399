//! What `plinius bench sps` and `plinius bench mirror` measure.

use plinius_mirror::bound;
use pyo3::prelude::*;

use crate::errors;
use crate::key::Key;
use crate::pool::Pool;
use crate::swaps::Array;

/// Swaps random words of a persistent array, several in each transaction, for some seconds after a warm-up of a tenth of
/// them; returns the swaps and the seconds that they took. The array is checked and freed afterwards.
#[pyfunction]
pub fn swaps(
    py: Python<'_>,
    pool: &Pool,
    array_bytes: u64,
    swaps_per_transaction: u64,
    seconds: f64,
    seed: u64,
) -> PyResult<(u64, f64)> {
    let pool = pool.open(py)?;
    let measured = py.detach(|| {
        let mut array = Array::create(&pool, array_bytes, seed)?;
        array.swap_for(seconds / 10.0, swaps_per_transaction)?;
        let measured = array.swap_for(seconds, swaps_per_transaction)?;
        array.finish()?;
        Ok(measured)
    });
    measured.map_err(|error| errors::pool(py, error))
}

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

/// Seconds to copy buffers of these lengths into free extents of the pool.
#[pyfunction]
pub fn copy_in(py: Python<'_>, pool: &Pool, lengths: Vec<usize>, threads: usize) -> PyResult<f64> {
    let pool = pool.open(py)?;
    py.detach(|| bound::copy_in(&pool, &lengths, threads)).map_err(|error| errors::mirror(py, error))
}

/// Seconds to copy buffers of these lengths from extents of the pool.
#[pyfunction]
pub fn copy_out(py: Python<'_>, pool: &Pool, lengths: Vec<usize>, threads: usize) -> PyResult<f64> {
    let pool = pool.open(py)?;
    py.detach(|| bound::copy_out(&pool, &lengths, threads)).map_err(|error| errors::mirror(py, error))
}
