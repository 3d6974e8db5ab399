//! `plinius._core.Writing` and `plinius._core.Reading`: one write attempt of a mirror, and opening one.

use plinius_mirror::{BufferName, Context, Reading as CoreReading, SealedBuffer, Writing as CoreWriting};
use plinius_pm::{Entry, Extent};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::errors;
use crate::key::{Key, parse_salt};
use crate::memory::Borrowed;
use crate::pool::Pool;

/// A sealed buffer: offset and length of its extent (zeros for an empty buffer), nonces, tags.
type SealedTuple<'py> = (u64, u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);
type SealedVecs = (u64, u64, Vec<u8>, Vec<u8>);
/// Name, dtype, shape and memory.
type SourceTuple<'py> = (String, String, Vec<u64>, Bound<'py, PyAny>);
/// Name, dtype, shape, sealed buffer and memory.
type TargetTuple<'py> = (String, String, Vec<u64>, SealedVecs, Bound<'py, PyAny>);

/// One write attempt.
///
/// Its methods borrow it mutably: a second thread that meets it in use gets an error, not a deadlock.
#[pyclass(module = "plinius._core")]
pub struct Writing(Option<CoreWriting>);

impl Writing {
    fn current(&mut self) -> PyResult<&mut CoreWriting> {
        self.0.as_mut().ok_or_else(ended)
    }
}

#[pymethods]
impl Writing {
    #[new]
    fn new(
        py: Python<'_>,
        pool: &Pool,
        key: &Key,
        job_id: [u8; 16],
        mirror: String,
        written: (u64, u64),
    ) -> PyResult<Self> {
        let writing = CoreWriting::begin(pool.open(py)?, &key.0, context(job_id, mirror, written));
        writing.map(|writing| Self(Some(writing))).map_err(|error| errors::mirror(py, error))
    }

    #[getter]
    fn salt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.0.as_ref().ok_or_else(ended)?.salt()))
    }

    #[getter]
    fn commitment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.0.as_ref().ok_or_else(ended)?.commitment()))
    }

    fn seal<'py>(
        &mut self,
        py: Python<'py>,
        buffers: Vec<SourceTuple<'py>>,
        threads: usize,
    ) -> PyResult<Vec<SealedTuple<'py>>> {
        let borrow = |(name, dtype, shape, memory): SourceTuple<'py>| {
            Ok((BufferName { name, dtype, shape }, Borrowed::read(&memory)?))
        };
        let buffers = buffers.into_iter().map(borrow).collect::<PyResult<Vec<_>>>()?;
        let writing = self.current()?;
        let sealed = py.detach(|| writing.seal(&buffers, threads)).map_err(|error| errors::mirror(py, error))?;
        Ok(sealed.into_iter().map(|sealed| tuple(py, &sealed)).collect())
    }

    fn seal_manifest<'py>(&mut self, py: Python<'py>, manifest: &Bound<'py, PyBytes>) -> PyResult<SealedTuple<'py>> {
        let manifest = Borrowed::read(manifest.as_any())?;
        let writing = self.current()?;
        let sealed = py.detach(|| writing.seal_manifest(manifest)).map_err(|error| errors::mirror(py, error))?;
        Ok(tuple(py, &sealed))
    }

    /// Ends the attempt and gives its space back. An error's traceback may hold this for long, and with it the pool.
    fn abandon(&mut self, py: Python<'_>) {
        let writing = self.0.take();
        py.detach(|| drop(writing));
    }

    /// Puts the entry `name` into the catalog, owning `extents`, and ends the attempt.
    fn commit(&mut self, py: Python<'_>, name: String, meta: Vec<u8>, extents: Vec<(u64, u64)>) -> PyResult<()> {
        let writing = self.0.take().ok_or_else(ended)?;
        let extents = extents.into_iter().map(|(offset, bytes)| Extent { offset, bytes }).collect();
        let entry = Entry { name, meta, block: 0, extents };
        py.detach(|| writing.commit(&entry)).map_err(|error| errors::mirror(py, error))
    }
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("this attempt has ended")
}

/// The opening of what one attempt wrote.
#[pyclass(frozen, module = "plinius._core")]
pub struct Reading {
    pool: Py<Pool>,
    reading: CoreReading,
}

#[pymethods]
impl Reading {
    #[new]
    fn new(
        py: Python<'_>,
        pool: Py<Pool>,
        key: &Key,
        job_id: [u8; 16],
        mirror: String,
        written: (u64, u64),
        derived: (Vec<u8>, Vec<u8>),
    ) -> PyResult<Self> {
        let (salt, commitment) = (parse_salt(&derived.0)?, derived.1);
        let context = context(job_id, mirror, written);
        let reading = CoreReading::begin(&key.0, context, &salt, &commitment);
        reading.map(|reading| Self { pool, reading }).map_err(|error| errors::mirror(py, error))
    }

    /// Opens buffers into their memory; after an error it holds a mixture, which the caller wipes.
    fn open(&self, py: Python<'_>, buffers: Vec<TargetTuple<'_>>, threads: usize) -> PyResult<()> {
        let borrow = |(name, dtype, shape, sealed, memory): TargetTuple<'_>| {
            Ok((BufferName { name, dtype, shape }, sealed_buffer(sealed)?, Borrowed::write(&memory)?))
        };
        let buffers = buffers.into_iter().map(borrow).collect::<PyResult<Vec<_>>>()?;
        let pool = self.pool.get().open(py)?;
        py.detach(|| self.reading.open(&pool, &buffers, threads)).map_err(|error| errors::mirror(py, error))
    }

    fn open_manifest<'py>(&self, py: Python<'py>, sealed: SealedVecs) -> PyResult<Bound<'py, PyByteArray>> {
        let sealed = sealed_buffer(sealed)?;
        let pool = self.pool.get().open(py)?;
        let manifest =
            py.detach(|| self.reading.open_manifest(&pool, &sealed)).map_err(|error| errors::mirror(py, error))?;
        Ok(PyByteArray::new(py, &manifest))
    }
}

/// `written` is the generation and the step of the attempt.
fn context(job_id: [u8; 16], mirror: String, written: (u64, u64)) -> Context {
    Context { purpose: "tensor", job_id, mirror, generation: written.0, step: written.1 }
}

fn tuple<'py>(py: Python<'py>, sealed: &SealedBuffer) -> SealedTuple<'py> {
    let (offset, bytes) = sealed.extent.map_or((0, 0), |extent| (extent.offset, extent.bytes));
    (offset, bytes, PyBytes::new(py, &sealed.nonces), PyBytes::new(py, &sealed.tags))
}

fn sealed_buffer((offset, bytes, nonces, tags): SealedVecs) -> PyResult<SealedBuffer> {
    let extent = match (offset, bytes) {
        (0, 0) => None,
        (_, 0) => return Err(PyValueError::new_err("an extent has at least one byte")),
        _ => Some(Extent { offset, bytes }),
    };
    Ok(SealedBuffer { extent, nonces, tags })
}
