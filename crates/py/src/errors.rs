//! Errors of the crates as the classes of `plinius.errors`.

use plinius_mirror::Error as MirrorError;
use plinius_pm::Error as PoolError;
use plinius_seal::Error as SealError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// An instance of a class of `plinius.errors`.
fn raise(py: Python<'_>, class: &str, arguments: PyResult<Bound<'_, PyTuple>>) -> PyErr {
    let build = || py.import("plinius.errors")?.getattr(class)?.call1(arguments?);
    build().map_or_else(|error| error, PyErr::from_value)
}

fn say(py: Python<'_>, class: &str, message: String) -> PyErr {
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

/// An error of keys and sealing.
pub fn seal(py: Python<'_>, error: SealError) -> PyErr {
    let message = error.to_string();
    match error {
        SealError::Refused => say(py, "IntegrityError", message),
        SealError::NotAKey(_) => say(py, "ConfigError", message),
        SealError::Library => PyRuntimeError::new_err(message),
    }
}

/// An error between pool and keys.
pub fn mirror(py: Python<'_>, error: MirrorError) -> PyErr {
    match error {
        MirrorError::Pool(error) => pool(py, error),
        MirrorError::Seal(error) => seal(py, error),
        MirrorError::Refused(_) => say(py, "IntegrityError", error.to_string()),
        MirrorError::Written(_) => say(py, "ConfigError", error.to_string()),
        MirrorError::Misuse(_) => say(py, "PliniusError", error.to_string()),
    }
}
