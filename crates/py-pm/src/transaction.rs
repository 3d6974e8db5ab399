//! `plinius._pm.Transaction`, and the `with` block of one.

use std::sync::{Mutex, OnceLock};
use std::thread::{self, ThreadId};

use plinius_binding::{Borrowed, errors};
use plinius_medium::{Source, Target};
use plinius_pm::{Result, Transaction as CoreTransaction};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::pool::Pool;
use crate::runs::{Named, Runs, lock, misuse, named};

/// A transaction, which belongs to the thread that began it: two threads that shared one could lose each other's updates,
/// and a forked child shares the memory, but not the right to write it.
///
/// Whoever holds its lock holds no GIL that another thread could wait for: the lock is taken and given back while the GIL
/// is released. `with` ends it without a moment at which a signal's exception could leave it open, as one between the
/// first instructions of an `__exit__` in Python would.
#[pyclass(frozen, module = "plinius._pm")]
pub struct Transaction {
    state: Mutex<State>,
    owner: (u32, ThreadId),
}

enum State {
    Running(CoreTransaction),
    Ended,
    /// A change of several stores failed between them, so that nothing of the transaction may remain.
    Failed,
}

impl State {
    fn running(&mut self) -> Result<&mut CoreTransaction> {
        match self {
            Self::Running(tx) => Ok(tx),
            Self::Ended => Err(misuse("the transaction has ended; begin a new one with pool.transaction()")),
            Self::Failed => Err(misuse(
                "the transaction was rolled back when a change failed midway; begin a new one with pool.transaction()",
            )),
        }
    }

    fn end(&mut self, how: Self) {
        if matches!(self, Self::Running(_)) {
            *self = how;
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.running()?;
        if let Self::Running(tx) = std::mem::replace(self, Self::Ended) { tx.commit() } else { Ok(()) }
    }
}

impl Transaction {
    pub fn new(begun: CoreTransaction) -> Self {
        Self { state: Mutex::new(State::Running(begun)), owner: here() }
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut CoreTransaction) -> Result<T> + Send,
    ) -> PyResult<T> {
        let done = py.detach(|| {
            let mut state = lock(&self.state);
            let tx = state.running()?;
            self.check_owner()?;
            work(tx)
        });
        done.map_err(|error| errors::pool(py, error))
    }

    fn check_owner(&self) -> Result<()> {
        if self.owner == here() {
            return Ok(());
        }
        Err(misuse("a transaction belongs to the thread that began it; begin one here"))
    }

    fn leave(&self, is_whole: bool) -> Result<()> {
        let mut state = lock(&self.state);
        if !is_whole || matches!(*state, State::Ended) {
            state.end(State::Ended);
            return Ok(());
        }
        let committed = self.check_owner().and_then(|()| state.commit());
        state.end(State::Ended);
        committed
    }
}

#[pymethods]
impl Transaction {
    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |tx| Ok(tx.names()))
    }

    fn entry<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Named<'py>>> {
        Ok(self.with(py, |tx| Ok(tx.entry(name)))?.map(|entry| named(py, &entry)))
    }

    /// Puts or replaces an entry.
    fn set(&self, py: Python<'_>, name: &str, meta: &[u8], block: u64) -> PyResult<()> {
        self.with(py, |tx| tx.set(name, meta, block))
    }

    /// Removes an entry and returns the block that it named, which is still in use.
    fn remove(&self, py: Python<'_>, name: &str) -> PyResult<Option<u64>> {
        Ok(self.with(py, |tx| tx.remove(name))?.map(|entry| entry.block))
    }

    /// Takes a block that holds these bytes.
    fn create(&self, py: Python<'_>, memory: &Bound<'_, PyAny>) -> PyResult<u64> {
        let memory = Borrowed::read(memory)?;
        self.with(py, |tx| tx.create(&memory.to_vec()))
    }

    /// Takes a block of zeros.
    fn allocate(&self, py: Python<'_>, length: u64) -> PyResult<u64> {
        self.with(py, |tx| tx.allocate(length))
    }

    /// Gives a block back.
    fn free(&self, py: Python<'_>, block: u64) -> PyResult<()> {
        self.with(py, |tx| tx.free(block))
    }

    fn block_bytes(&self, py: Python<'_>, block: u64) -> PyResult<u64> {
        self.with(py, |tx| Ok(tx.block(block)?.bytes()))
    }

    /// Copies runs of `run_bytes` that begin at `offsets` of a block into `out`, one behind the other.
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
        self.with(py, |tx| {
            let block = tx.block(block)?;
            runs.load(&out, |at, bytes| tx.load(block, at, bytes))
        })
    }

    /// Stores `memory`, cut into runs of `run_bytes`, at `offsets` of a block.
    fn store(
        &self,
        py: Python<'_>,
        block: u64,
        offsets: &Bound<'_, PyAny>,
        run_bytes: usize,
        memory: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let memory = Borrowed::read(memory)?;
        let runs = Runs::new(offsets, run_bytes, Source::len(&memory))?;
        self.with(py, |tx| {
            let block = tx.block(block)?;
            runs.store(&memory, |at, bytes| tx.store(block, at, bytes))
        })
    }

    /// Makes it durable and ends it.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let done = py.detach(|| self.check_owner().and_then(|()| lock(&self.state).commit()));
        done.map_err(|error| errors::pool(py, error))
    }

    /// Rolls it back, unless it has ended.
    fn abort(&self, py: Python<'_>) {
        py.detach(|| lock(&self.state).end(State::Ended));
    }

    /// Rolls it back because a change failed midway: it cannot be committed any more. Not by another thread, whose changes
    /// were refused from the start.
    fn fail(&self, py: Python<'_>) {
        if self.check_owner().is_ok() {
            py.detach(|| lock(&self.state).end(State::Failed));
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Commits, or rolls back when an exception is on its way; nothing, if it has ended already.
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let is_whole = kind.is_none();
        py.detach(|| self.leave(is_whole)).map_err(|error| errors::pool(py, error))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a transaction is not pickled"))
    }
}

/// The `with` block of one transaction: what `plinius.pool.Transaction` is made of.
#[pyclass(frozen, subclass, module = "plinius._pm")]
pub struct Scope {
    pool: Py<Pool>,
    /// What errors call the pool.
    path: String,
    begun: OnceLock<Py<Transaction>>,
}

#[pymethods]
impl Scope {
    #[new]
    fn new(pool: Py<Pool>, path: String) -> Self {
        Self { pool, path, begun: OnceLock::new() }
    }

    /// The transaction, once it has begun.
    #[getter(_begun)]
    fn begun(&self, py: Python<'_>) -> Option<Py<Transaction>> {
        self.begun.get().map(|begun| begun.clone_ref(py))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let (py, this) = (slf.py(), slf.get());
        if this.begun.get().is_some() {
            return Err(errors::pool(py, misuse("a transaction begins once; begin a new one with pool.transaction()")));
        }
        let begun = this.pool.get().transaction(py).and_then(|begun| Py::new(py, begun));
        // Two threads that enter at once: the second one's transaction is dropped, and the block has the first's.
        let _ = this.begun.set(begun.map_err(|error| errors::naming(py, &this.path, error))?);
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some(begun) = self.begun.get() else { return Ok(()) };
        begun.get().__exit__(py, kind, error, trace).map_err(|error| errors::naming(py, &self.path, error))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a transaction is not pickled"))
    }
}

fn here() -> (u32, ThreadId) {
    (std::process::id(), thread::current().id())
}
