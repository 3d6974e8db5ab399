//! Errors of keys and sealing as the classes of `plinius.errors`.

use plinius_binding::errors::{pool, say};
use plinius_mirror::Error as MirrorError;
use plinius_seal::Error as SealError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

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
