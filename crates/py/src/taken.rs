//! Secrets that a library returned as Python bytes.

use std::slice;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use zeroize::Zeroize;

/// Bytes that Python shares among all who have equal ones: the empty one, and those of one byte.
const SHARED_BYTES: usize = 1;

/// Moves a secret out of a bytes object that nobody else holds into memory that can be wiped, and wipes the object.
///
/// Only the result of a call can be given, as in ``take(library.decrypt(...))``: what a variable or a constant holds too,
/// somebody could read afterwards, and would read zeros.
#[pyfunction]
pub fn take<'py>(secret: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyByteArray>> {
    // SAFETY: a live object, and the GIL is held.
    let holders = unsafe { ffi::Py_REFCNT(secret.as_ptr()) };
    if holders != 1 || !secret.is_exact_instance_of::<PyBytes>() {
        return Err(PyRuntimeError::new_err("these bytes are held by somebody else too, and so cannot be wiped"));
    }
    let taken = PyByteArray::new(secret.py(), secret.as_bytes());
    let length = secret.as_bytes().len();
    if length > SHARED_BYTES {
        // SAFETY: the one reference to the object is our caller's argument, so nobody reads the bytes while they are
        // written, nor expects to find them unchanged: it goes when this returns. They are `length` long, and the GIL is
        // held. No reference to them from above is used any more.
        unsafe { slice::from_raw_parts_mut(ffi::PyBytes_AsString(secret.as_ptr()).cast::<u8>(), length) }.zeroize();
    }
    Ok(taken)
}
