//! `plinius._pm.Pool` and the reading of a pool's public part.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plinius_binding::{ExtentTuple, borrow, errors, tuples};
use plinius_pm::{Durability, Entry, Error, Flush, Options, Pool as CorePool, Status};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::reservation::Reservation;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;

/// An entry of the catalog: name, public bytes, extents.
type EntryTuple = (String, Vec<u8>, Vec<ExtentTuple>);

/// How long a thread waits for another one's transaction before it looks at its signals.
const TURN: Duration = Duration::from_millis(100);

/// An open pool.
#[pyclass(frozen, module = "plinius._pm")]
pub struct Pool {
    pool: Mutex<Option<Arc<CorePool>>>,
}

impl Pool {
    /// The pool, unless it was closed.
    pub fn open(&self, py: Python<'_>) -> PyResult<Arc<CorePool>> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pool.ok_or_else(|| errors::pool(py, Error::Misuse("the pool is closed; open it again".into())))
    }
}

#[pymethods]
impl Pool {
    /// Opens or creates the pool at `path`, or behind the descriptor `fd`, which stays the caller's.
    #[new]
    #[pyo3(signature = (*, path=None, fd=None, max_bytes=None, heap_bytes, flush="auto", require=None))]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        fd: Option<RawFd>,
        max_bytes: Option<u64>,
        heap_bytes: u64,
        flush: &str,
        require: Option<&str>,
    ) -> PyResult<Self> {
        let flush = Flush::parse(flush).map_err(|error| errors::pool(py, error))?;
        let require = require.map(Durability::parse).transpose().map_err(|error| errors::pool(py, error))?;
        let options = Options { max_bytes, heap_bytes, pool_id: fresh_id()?, flush, require };
        let opened = match (path, fd) {
            (Some(path), None) => py.detach(|| CorePool::open(&path, options)),
            (None, Some(fd)) => {
                let file = duplicate(fd)?;
                py.detach(|| CorePool::from_file(file, options))
            }
            _ => return Err(PyValueError::new_err("name the pool by its path or by a descriptor")),
        };
        let pool = opened.map_err(|error| errors::pool(py, error))?;
        Ok(Self { pool: Mutex::new(Some(pool)) })
    }

    fn close(&self, py: Python<'_>) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(pool));
    }

    #[getter]
    fn closed(&self) -> bool {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<[u8; 16]> {
        let pool = self.open(py)?;
        Ok(py.detach(|| pool.id()))
    }

    /// Length of the pool, and how much of it is free for extents.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let pool = self.open(py)?;
        Ok(py.detach(|| pool.bytes()))
    }

    #[getter]
    fn durability(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.open(py)?.durability().to_string())
    }

    #[getter]
    fn medium(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.open(py)?.medium().to_string())
    }

    #[getter]
    fn flush(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.open(py)?.flush().name())
    }

    fn entries(&self, py: Python<'_>) -> PyResult<Vec<EntryTuple>> {
        Ok(self.open(py)?.entries().iter().map(tuple).collect())
    }

    fn entry(&self, py: Python<'_>, name: &str) -> PyResult<Option<EntryTuple>> {
        Ok(self.open(py)?.entry(name).map(|entry| tuple(&entry)))
    }

    /// The public bytes of an entry alone.
    fn meta<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.open(py)?.entry(name).map(|entry| PyBytes::new(py, &entry.meta)))
    }

    /// Begins a transaction, as soon as no other one runs.
    pub fn transaction(&self, py: Python<'_>) -> PyResult<Transaction> {
        let pool = self.open(py)?;
        loop {
            let begun = py.detach(|| pool.transaction_within(TURN)).map_err(|error| errors::pool(py, error))?;
            if let Some(begun) = begun {
                return Ok(Transaction::new(begun));
            }
            py.check_signals()?; // Whoever waits for another thread can be interrupted.
        }
    }

    /// Begins to take free extents.
    fn reserve(&self, py: Python<'_>) -> PyResult<Reservation> {
        let pool = self.open(py)?;
        let nothing = py.detach(|| pool.reserve(&[])).map_err(|error| errors::pool(py, error))?;
        Ok(Reservation::new(pool, nothing))
    }

    /// The pool's file, for whoever maps it a second time: `plinius._core.Mapping`.
    fn lend(&self, py: Python<'_>) -> PyResult<Lent> {
        Ok(Lent(self.open(py)?))
    }

    /// Refuses a thread that runs a transaction, before it waits for another thread that needs one.
    fn check_free(&self, py: Python<'_>) -> PyResult<()> {
        self.open(py)?.check_free().map_err(|error| errors::pool(py, error))
    }

    /// Begins to read the committed state.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Snapshot> {
        let pool = self.open(py)?;
        let begun = py.detach(|| pool.snapshot());
        begun.map(Snapshot::new).map_err(|error| errors::pool(py, error))
    }

    /// What is wrong with the pool, in words, and all blocks in use.
    fn verify(&self, py: Python<'_>) -> PyResult<(Vec<String>, Vec<u64>)> {
        let pool = self.open(py)?;
        let report = py.detach(|| pool.verify()).map_err(|error| errors::pool(py, error))?;
        Ok((report.problems, report.blocks))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let pool = self.open(py)?;
        let stats = py.detach(|| pool.stats()).map_err(|error| errors::pool(py, error))?;
        let facts = PyDict::new(py);
        facts.set_item("pool_bytes", stats.pool_bytes)?;
        facts.set_item("free_bytes", stats.free_bytes)?;
        facts.set_item("heap_bytes", stats.heap_bytes)?;
        facts.set_item("heap_free_bytes", stats.heap_free_bytes)?;
        facts.set_item("entries", stats.entries)?;
        facts.set_item("blocks", stats.blocks)?;
        facts.set_item("commits", stats.commits)?;
        Ok(facts)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("an open pool is not pickled; a forked worker inherits it"))
    }
}

/// The file of an open pool, which stays open, and with it the pool, as long as this lives.
#[pyclass(frozen, module = "plinius._pm")]
pub struct Lent(Arc<CorePool>);

#[pymethods]
impl Lent {
    /// Its descriptor. It must not be closed, nor another one of this file: the pool's lock would go with it.
    fn fileno(&self) -> RawFd {
        self.0.file().as_raw_fd()
    }
}

fn fresh_id() -> PyResult<[u8; 16]> {
    let mut id = [0; 16];
    let filled = getrandom(&mut id, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    if filled == id.len() { Ok(id) } else { Err(PyOSError::new_err("the system gave too few random bytes")) }
}

fn tuple(entry: &Entry) -> EntryTuple {
    (entry.name.clone(), entry.meta.clone(), tuples(&entry.extents))
}

fn duplicate(fd: RawFd) -> PyResult<File> {
    Ok(File::from(borrow(&fd)?.try_clone_to_owned()?))
}

/// The public part of the pool at a path, read without its lock.
#[pyfunction]
pub fn status<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let status = py.detach(|| Status::read(&path)).map_err(|error| errors::pool(py, error))?;
    let facts = PyDict::new(py);
    facts.set_item("pool_id", status.pool_id)?;
    facts.set_item("pool_bytes", status.pool_bytes)?;
    facts.set_item("heap_bytes", status.heap_bytes)?;
    facts.set_item("heap_used_bytes", status.heap_used_bytes)?;
    facts.set_item("commits", status.commits)?;
    facts.set_item("state", format!("{:?}", status.state))?;
    facts.set_item("entries", status.entries.iter().map(tuple).collect::<Vec<_>>())?;
    Ok(facts)
}

/// What lies under an existing file, as (medium, durability).
#[pyfunction]
pub fn medium_of(py: Python<'_>, path: PathBuf) -> PyResult<(String, String)> {
    let medium = plinius_pm::medium_of(&path).map_err(|error| errors::pool(py, error))?;
    Ok((medium.to_string(), medium.durability().to_string()))
}

/// The best write-back instruction of this CPU.
#[pyfunction]
pub fn cpu_write_back() -> &'static str {
    Flush::best_instruction().name()
}
