//! `plinius._core.Copying` and `read_extent`: an entry's extents as they are, from one pool to wherever. No key is needed.

use plinius_mirror::Target;
use plinius_pm::{Entry, Extent, Reserved};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors;
use crate::memory::Borrowed;
use crate::pool::Pool;

/// Space for the extents of an entry, which is filled with bytes as they are and then named.
#[pyclass(module = "plinius._core")]
pub struct Copying {
    pool: Py<Pool>,
    reserved: Option<Reserved>,
}

#[pymethods]
impl Copying {
    #[new]
    fn new(py: Python<'_>, pool: Py<Pool>, lengths: Vec<u64>) -> PyResult<Self> {
        let core = pool.get().open(py)?;
        let reserved = py.detach(|| core.reserve(&lengths)).map_err(|error| errors::pool(py, error))?;
        Ok(Self { pool, reserved: Some(reserved) })
    }

    /// Writes into the extent that has this place among the lengths.
    fn write(&self, py: Python<'_>, index: usize, at: u64, memory: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Borrowed::read(memory)?.to_vec();
        let reserved = self.reserved.as_ref().ok_or_else(ended)?;
        let write = || reserved.write(index, at, &bytes).inspect(|()| reserved.fence());
        py.detach(write).map_err(|error| errors::pool(py, error))
    }

    /// Gives the space back. An error's traceback may hold this for long, and with it the pool.
    fn abandon(&mut self, py: Python<'_>) {
        let reserved = self.reserved.take();
        py.detach(|| drop(reserved));
    }

    /// Puts the entry `name` into the catalog, owning the extents in the order of their lengths.
    fn commit(&mut self, py: Python<'_>, name: String, meta: Vec<u8>) -> PyResult<()> {
        let pool = self.pool.get().open(py)?;
        let reserved = self.reserved.take().ok_or_else(ended)?;
        let entry = Entry { name, meta, block: 0, extents: reserved.extents() };
        py.detach(|| pool.commit(&entry, reserved)).map_err(|error| errors::pool(py, error))
    }
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("this copying has ended")
}

/// Reads bytes of an extent, given by offset and length, into all of `memory`, starting `at` bytes into it.
#[pyfunction]
pub fn read_extent(
    py: Python<'_>,
    pool: &Pool,
    extent: (u64, u64),
    at: u64,
    memory: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let pool = pool.open(py)?;
    let target = Borrowed::write(memory)?;
    let extent = Extent { offset: extent.0, bytes: extent.1 };
    let read = || {
        let mut bytes = vec![0; Target::len(&target)];
        pool.read(extent, at, &mut bytes)?;
        target.copy_in(0, &bytes);
        Ok(())
    };
    py.detach(read).map_err(|error| errors::pool(py, error))
}
