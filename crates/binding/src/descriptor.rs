//! Descriptors that Python code has open.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A descriptor that stays its caller's.
pub fn borrow(fd: &RawFd) -> PyResult<BorrowedFd<'_>> {
    if *fd < 0 {
        return Err(PyValueError::new_err("a descriptor is not negative"));
    }
    // SAFETY: the caller keeps the descriptor open during this call; a closed one gives an error, not undefined memory.
    Ok(unsafe { BorrowedFd::borrow_raw(*fd) })
}
