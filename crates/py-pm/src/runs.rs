//! Bytes of heap blocks in runs: a run begins at each of many offsets, all are of one length, and in memory they lie one
//! behind the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use plinius_binding::Borrowed;
use plinius_medium::{Source, Target};
use plinius_pm::{Entry, Error, Result};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes are copied through private memory of this size: other threads may write a Python buffer at any moment.
const STAGING_BYTES: usize = 64 << 10;

/// An entry's public bytes and the block that it names.
pub type Named<'py> = (Bound<'py, PyBytes>, u64);

/// Where runs of bytes begin in a block, and how long each is.
pub struct Runs {
    offsets: Vec<u64>,
    run_bytes: usize,
}

impl Runs {
    /// The runs that `len` bytes of memory are cut into.
    pub fn new(offsets: &Bound<'_, PyAny>, run_bytes: usize, len: usize) -> PyResult<Self> {
        let offsets = PyBuffer::<u64>::get(offsets)?.to_vec(offsets.py())?;
        if offsets.len().checked_mul(run_bytes) == Some(len) {
            return Ok(Self { offsets, run_bytes });
        }
        Err(PyValueError::new_err(format!("{} runs of {run_bytes} bytes are not {len} bytes", offsets.len())))
    }

    /// Copies all runs into memory, piece by piece.
    pub fn load(&self, out: &Borrowed, load: impl Fn(u64, &mut [u8]) -> Result<()>) -> Result<()> {
        self.pieces(|at, place, piece| {
            load(at, piece)?;
            out.copy_in(place, piece);
            Ok(())
        })
    }

    /// Stores memory into all runs, piece by piece.
    pub fn store(&self, memory: &Borrowed, mut store: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        self.pieces(|at, place, piece| {
            memory.copy_out(place, piece);
            store(at, piece)
        })
    }

    /// Goes over all runs with a private piece of memory: the place in the block, the place in memory, the piece.
    fn pieces(&self, mut work: impl FnMut(u64, usize, &mut [u8]) -> Result<()>) -> Result<()> {
        let mut staging = vec![0; self.run_bytes.min(STAGING_BYTES)];
        for (run, &at) in self.offsets.iter().enumerate() {
            for done in (0..self.run_bytes).step_by(STAGING_BYTES) {
                let piece = &mut staging[..(self.run_bytes - done).min(STAGING_BYTES)];
                work(at.saturating_add(done as u64), run * self.run_bytes + done, piece)?;
            }
        }
        Ok(())
    }
}

/// An entry as Python sees it.
pub fn named<'py>(py: Python<'py>, entry: &Entry) -> Named<'py> {
    (PyBytes::new(py, &entry.meta), entry.block)
}

/// The lock of a mutex; what it guards is whole also after a panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of somebody who uses the core in a way that it does not serve.
pub fn misuse(what: &str) -> Error {
    Error::Misuse(what.into())
}
