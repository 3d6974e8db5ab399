//! `plinius._core.Writing` and `plinius._core.Reading`: one write attempt of a mirror, and opening one.

use plinius_mirror::{
    BufferName, Context, Reading as CoreReading, SealedBuffer, Watch, Writing as CoreWriting, are_apart, fingerprints,
};
use plinius_pm::{Entry, Extent};
use plinius_seal::Fingerprints as CoreFingerprints;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::errors;
use crate::key::{Key, parse_salt};
use crate::memory::Borrowed;
use crate::pool::Pool;

/// A sealed buffer: offset and length of its extent (zeros for an empty buffer), nonces, tags.
type SealedTuple<'py> = (u64, u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);
/// A buffer, and what is done about its fingerprints: None, nothing; no bytes, they are noted; else they must be these.
type SourceTuple = (Py<Source>, Option<Vec<u8>>);
/// A sealed buffer and the fingerprints that were noted.
type WatchedTuple<'py> = (SealedTuple<'py>, Bound<'py, PyBytes>);
/// Name, dtype, shape, sealed buffer and memory.
type TargetTuple<'py> = (String, String, Vec<u64>, SealedTuple<'py>, Bound<'py, PyAny>);

/// A buffer that is sealed from, or looked at: made once for as many saves as it stays the same memory.
#[pyclass(frozen, module = "plinius._core")]
pub struct Source {
    name: BufferName,
    memory: Borrowed,
}

#[pymethods]
impl Source {
    #[new]
    fn new(name: String, dtype: String, shape: Vec<u64>, memory: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { name: BufferName { name, dtype, shape }, memory: Borrowed::read(memory)? })
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("borrowed memory is not pickled"))
    }
}

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
        buffers: Vec<SourceTuple>,
        prints: &Fingerprints,
        threads: usize,
    ) -> PyResult<Vec<WatchedTuple<'py>>> {
        let watch = |known: &Vec<u8>| if known.is_empty() { Watch::Note } else { Watch::Expect(known.clone()) };
        let watches: Vec<_> = buffers.iter().map(|(_, known)| known.as_ref().map_or(Watch::Not, watch)).collect();
        let buffers: Vec<_> = buffers.iter().map(|(source, _)| named(source.get())).collect();
        let writing = self.current()?;
        let sealed = py.detach(|| writing.seal_watched(&buffers, &watches, &prints.0, threads));
        let sealed = sealed.map_err(|error| errors::mirror(py, error))?;
        Ok(sealed.into_iter().map(|(sealed, noted)| (tuple(py, &sealed), PyBytes::new(py, &noted))).collect())
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

/// Fingerprints under a key of their own, by which memory is known to be unchanged.
#[pyclass(frozen, module = "plinius._core")]
pub struct Fingerprints(CoreFingerprints);

#[pymethods]
impl Fingerprints {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        CoreFingerprints::new().map(Self).map_err(|error| errors::seal(py, error))
    }

    /// Those of several buffers, sixteen bytes for each 256 KiB.
    fn of<'py>(&self, py: Python<'py>, buffers: Vec<Py<Source>>, threads: usize) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let memories: Vec<_> = buffers.iter().map(|source| &source.get().memory).collect();
        let found =
            py.detach(|| fingerprints(&self.0, &memories, threads)).map_err(|error| errors::mirror(py, error))?;
        Ok(found.iter().map(|prints| PyBytes::new(py, prints)).collect())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("fingerprints are not pickled: they mean nothing elsewhere"))
    }
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
        // Views of one array may share bytes: they are never written at the same time.
        let threads = if are_apart(buffers.iter().map(|(_, _, memory)| memory.span())) { threads } else { 1 };
        let pool = self.pool.get().open(py)?;
        py.detach(|| self.reading.open(&pool, &buffers, threads)).map_err(|error| errors::mirror(py, error))
    }

    fn open_manifest<'py>(&self, py: Python<'py>, sealed: SealedTuple<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let sealed = sealed_buffer(sealed)?;
        let pool = self.pool.get().open(py)?;
        let manifest =
            py.detach(|| self.reading.open_manifest(&pool, &sealed)).map_err(|error| errors::mirror(py, error))?;
        Ok(PyByteArray::new(py, &manifest))
    }
}

fn named(source: &Source) -> (&BufferName, &Borrowed) {
    (&source.name, &source.memory)
}

/// `written` is the generation and the step of the attempt.
fn context(job_id: [u8; 16], mirror: String, written: (u64, u64)) -> Context {
    Context { purpose: "tensor", job_id, mirror, generation: written.0, step: written.1 }
}

fn tuple<'py>(py: Python<'py>, sealed: &SealedBuffer) -> SealedTuple<'py> {
    let (offset, bytes) = sealed.extent.map_or((0, 0), |extent| (extent.offset, extent.bytes));
    (offset, bytes, PyBytes::new(py, &sealed.nonces), PyBytes::new(py, &sealed.tags))
}

fn sealed_buffer((offset, bytes, nonces, tags): SealedTuple<'_>) -> PyResult<SealedBuffer> {
    let extent = match (offset, bytes) {
        (0, 0) => None,
        (_, 0) => return Err(PyValueError::new_err("an extent has at least one byte")),
        _ => Some(Extent { offset, bytes }),
    };
    Ok(SealedBuffer { extent, nonces: nonces.as_bytes().to_vec(), tags: tags.as_bytes().to_vec() })
}
