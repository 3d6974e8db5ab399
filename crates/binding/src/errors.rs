//! Errors of a pool and its medium as the classes of `plinius.errors`.

use plinius_medium::Error as PoolError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// An instance of a class of `plinius.errors`.
fn raise(py: Python<'_>, class: &str, arguments: PyResult<Bound<'_, PyTuple>>) -> PyErr {
    let build = || py.import("plinius.errors")?.getattr(class)?.call1(arguments?);
    build().map_or_else(|error| error, PyErr::from_value)
}

/// An instance of a class of `plinius.errors` that has a message and nothing else.
pub fn say(py: Python<'_>, class: &str, message: String) -> PyErr {
    raise(py, class, (message,).into_pyobject(py))
}

/// An error of the pool.
pub fn pool(py: Python<'_>, error: PoolError) -> PyErr {
    let message = error.to_string();
    match error {
        PoolError::Full { needed_bytes, free_bytes, .. } => {
            raise(py, "PoolFull", (message, needed_bytes, free_bytes).into_pyobject(py))
        }
        PoolError::Busy { .. } => say(py, "PoolBusy", message),
        PoolError::Corrupt(_) | PoolError::NotAPool(_) => say(py, "PoolCorrupt", message),
        PoolError::Version { .. } => say(py, "PoolVersion", message),
        PoolError::Durability { .. } => say(py, "DurabilityUnavailable", message),
        PoolError::Io { .. } | PoolError::Misuse(_) => say(py, "PoolError", message),
    }
}

/// Puts the path of a pool before the message of an error that was found in it.
pub fn naming(py: Python<'_>, path: &str, error: PyErr) -> PyErr {
    let value = error.value(py);
    match value.setattr("args", (format!("{path}: {value}"),)) {
        Ok(()) => error,
        Err(other) => other,
    }
}
