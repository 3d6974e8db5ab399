//! `plinius._pm.Snapshot`: one committed state.

use std::sync::Mutex;

use plinius_binding::{Borrowed, errors};
use plinius_medium::Target;
use plinius_pm::{Result, Snapshot as CoreSnapshot};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::runs::{Named, Runs, lock, misuse, named};

/// One committed state.
#[pyclass(frozen, module = "plinius._pm")]
pub struct Snapshot(Mutex<Option<CoreSnapshot>>);

impl Snapshot {
    pub fn new(begun: CoreSnapshot) -> Self {
        Self(Mutex::new(Some(begun)))
    }

    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&CoreSnapshot) -> Result<T> + Send) -> PyResult<T> {
        let done = py.detach(|| work(lock(&self.0).as_ref().ok_or_else(|| misuse("it is closed"))?));
        done.map_err(|error| errors::pool(py, error))
    }
}

#[pymethods]
impl Snapshot {
    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |state| Ok(state.names()))
    }

    fn entry<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Named<'py>>> {
        Ok(self.with(py, |state| Ok(state.entry(name)))?.map(|entry| named(py, &entry)))
    }

    fn block_bytes(&self, py: Python<'_>, block: u64) -> PyResult<u64> {
        self.with(py, |state| Ok(state.block(block)?.bytes()))
    }

    /// As `Transaction.load`.
    fn load(
        &self,
        py: Python<'_>,
        block: u64,
        offsets: &Bound<'_, PyAny>,
        run_bytes: usize,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let out = Borrowed::write(out)?;
        let runs = Runs::new(offsets, run_bytes, Target::len(&out))?;
        self.with(py, |state| {
            let block = state.block(block)?;
            runs.load(&out, |at, bytes| state.load(block, at, bytes))
        })
    }

    /// Lets go of it, so that a commit need not wait.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(lock(&self.0).take()));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(&self, py: Python<'_>, _kind: &Bound<'_, PyAny>, _error: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a snapshot is not pickled"))
    }
}
