//! `plinius._pm.Reservation` and `read_extent`: bulk bytes of a pool, as they are.

use std::sync::Arc;

use plinius_binding::{Borrowed, ExtentTuple, errors, extent as extent_of, extents as extents_of, tuples};
use plinius_medium::Target;
use plinius_pm::{Entry, Pool as CorePool, Reserved};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::pool::Pool;

/// Free extents that were taken, to be written and then named by an entry, or given back.
#[pyclass(module = "plinius._pm")]
pub struct Reservation(Option<Taken>);

/// The pool too: what was begun can be finished although the pool is closed meanwhile.
struct Taken {
    pool: Arc<CorePool>,
    reserved: Reserved,
}

impl Reservation {
    pub fn new(pool: Arc<CorePool>, reserved: Reserved) -> Self {
        Self(Some(Taken { pool, reserved }))
    }

    fn taken(&self) -> PyResult<&Taken> {
        self.0.as_ref().ok_or_else(ended)
    }
}

#[pymethods]
impl Reservation {
    /// Takes further ones, one for each length, growing the pool where it must, and returns these.
    #[pyo3(signature = (lengths, /))]
    fn more(&mut self, py: Python<'_>, lengths: Vec<u64>) -> PyResult<Vec<ExtentTuple>> {
        let pool = &self.taken()?.pool;
        let further = py.detach(|| pool.reserve(&lengths)).map_err(|error| errors::pool(py, error))?;
        let extents = tuples(&further.extents());
        self.0 = self.0.take().map(|Taken { pool, reserved }| Taken { pool, reserved: reserved.join(further) });
        Ok(extents)
    }

    /// Writes into the extent that has this place among them.
    fn write(&self, py: Python<'_>, index: usize, at: u64, memory: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Borrowed::read(memory)?.to_vec();
        let reserved = &self.taken()?.reserved;
        let write = || reserved.write(index, at, &bytes).inspect(|()| reserved.fence());
        py.detach(write).map_err(|error| errors::pool(py, error))
    }

    /// Gives the space back. An error's traceback may hold this for long, and with it the pool.
    fn abandon(&mut self, py: Python<'_>) {
        let taken = self.0.take();
        py.detach(|| drop(taken));
    }

    /// Puts the entry `name` into the catalog, owning `extents`: all of these, and what it owned before if it likes.
    #[pyo3(signature = (name, meta, extents, /))]
    fn commit(&mut self, py: Python<'_>, name: String, meta: Vec<u8>, extents: Vec<ExtentTuple>) -> PyResult<()> {
        let Taken { pool, reserved } = self.0.take().ok_or_else(ended)?;
        let entry = Entry { name, meta, block: 0, extents: extents_of(extents) };
        py.detach(|| pool.commit(&entry, reserved)).map_err(|error| errors::pool(py, error))
    }
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("this reservation has ended")
}

/// Reads bytes of an extent, given by offset and length, into all of `memory`, starting `at` bytes into it.
#[pyfunction]
pub fn read_extent(
    py: Python<'_>,
    pool: &Pool,
    extent: ExtentTuple,
    at: u64,
    memory: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let pool = pool.open(py)?;
    let target = Borrowed::write(memory)?;
    let extent = extent_of(extent);
    let read = || {
        let mut bytes = vec![0; Target::len(&target)];
        pool.read(extent, at, &mut bytes)?;
        target.copy_in(0, &bytes);
        Ok(())
    };
    py.detach(read).map_err(|error| errors::pool(py, error))
}
