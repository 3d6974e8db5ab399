//! What `plinius bench sps` measures.

use plinius_binding::errors;
use pyo3::prelude::*;

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
