//! Entering the sandbox.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Takes away for ever what an enclave does not need; returns the version of Landlock (0: none), and whether seccomp holds.
#[pyfunction]
pub fn enter_sandbox() -> PyResult<(i32, bool)> {
    let confined = plinius_sandbox::enter().map_err(|error| PyOSError::new_err(error.to_string()))?;
    Ok((confined.landlock_abi, confined.seccomp))
}
