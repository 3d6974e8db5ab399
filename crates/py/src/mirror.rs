//! `plinius._core.Writing` and `plinius._core.Reading`: one write attempt of a mirror, and opening one.

use std::sync::Arc;

use plinius_binding::{Borrowed, ExtentTuple, extent, extents};
use plinius_medium::{Error, Extent, MappedFile};
use plinius_mirror::{
    BufferName, Context, Reading as CoreReading, SealedBuffer, Watch, Writing as CoreWriting, are_apart, fingerprints,
};
use plinius_seal::Fingerprints as CoreFingerprints;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::errors;
use crate::key::{Key, parse_salt};
use crate::mapping::{Mapping, cover};

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

/// One write attempt. The extents that it is given are committed, or given back, by whoever reserved them.
///
/// What is mapped it has for itself: an attempt that has begun can be finished although the pool is closed meanwhile.
#[pyclass(module = "plinius._core")]
pub struct Writing(Option<(CoreWriting, Arc<MappedFile>)>);

impl Writing {
    fn current(&self) -> PyResult<(&CoreWriting, &MappedFile)> {
        let (writing, mapped) = self.0.as_ref().ok_or_else(|| PyRuntimeError::new_err("this attempt has ended"))?;
        Ok((writing, mapped))
    }
}

#[pymethods]
impl Writing {
    #[new]
    fn new(
        py: Python<'_>,
        mapping: &Mapping,
        key: &Key,
        job_id: [u8; 16],
        mirror: String,
        written: (u64, u64),
    ) -> PyResult<Self> {
        let mapped = mapping.open(py)?;
        let writing = CoreWriting::begin(&key.0, context(job_id, mirror, written));
        writing.map(|writing| Self(Some((writing, mapped)))).map_err(|error| errors::mirror(py, error))
    }

    #[getter]
    fn salt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.current()?.0.salt()))
    }

    #[getter]
    fn commitment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.current()?.0.commitment()))
    }

    /// Seals buffers into extents: one for each buffer that is not empty, as long.
    fn seal<'py>(
        &self,
        py: Python<'py>,
        buffers: Vec<SourceTuple>,
        into: Vec<ExtentTuple>,
        prints: &Fingerprints,
        threads: usize,
    ) -> PyResult<Vec<WatchedTuple<'py>>> {
        let watch = |known: &Vec<u8>| if known.is_empty() { Watch::Note } else { Watch::Expect(known.clone()) };
        let watches: Vec<_> = buffers.iter().map(|(_, known)| known.as_ref().map_or(Watch::Not, watch)).collect();
        let buffers: Vec<_> = buffers.iter().map(|(source, _)| named(source.get())).collect();
        let extents = extents(into);
        let (writing, mapped) = self.current()?;
        cover(py, mapped, &extents)?;
        let seal = || writing.seal_watched(mapped, &extents, &buffers, (&watches, &prints.0), threads);
        let sealed = py.detach(seal).map_err(|error| errors::mirror(py, error))?;
        Ok(sealed.into_iter().map(|(sealed, noted)| (tuple(py, &sealed), PyBytes::new(py, &noted))).collect())
    }

    fn seal_manifest<'py>(
        &self,
        py: Python<'py>,
        manifest: &Bound<'py, PyBytes>,
        into: ExtentTuple,
    ) -> PyResult<SealedTuple<'py>> {
        let manifest = Borrowed::read(manifest.as_any())?;
        let extent = extent(into);
        let (writing, mapped) = self.current()?;
        cover(py, mapped, [&extent])?;
        let sealed = py.detach(|| writing.seal_manifest(mapped, extent, manifest));
        Ok(tuple(py, &sealed.map_err(|error| errors::mirror(py, error))?))
    }

    /// Ends the attempt. An error's traceback may hold this for long, and with it the pool.
    fn abandon(&mut self, py: Python<'_>) {
        let ended = self.0.take();
        py.detach(|| drop(ended));
    }
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
    mapping: Py<Mapping>,
    reading: CoreReading,
}

#[pymethods]
impl Reading {
    #[new]
    fn new(
        py: Python<'_>,
        mapping: Py<Mapping>,
        key: &Key,
        job_id: [u8; 16],
        mirror: String,
        written: (u64, u64),
        derived: (Vec<u8>, Vec<u8>),
    ) -> PyResult<Self> {
        let (salt, commitment) = (parse_salt(&derived.0)?, derived.1);
        let context = context(job_id, mirror, written);
        let reading = CoreReading::begin(&key.0, context, &salt, &commitment);
        reading.map(|reading| Self { mapping, reading }).map_err(|error| errors::mirror(py, error))
    }

    /// Opens buffers into their memory; after an error it holds a mixture, which the caller wipes.
    fn open(&self, py: Python<'_>, buffers: Vec<TargetTuple<'_>>, threads: usize) -> PyResult<()> {
        let borrow = |(name, dtype, shape, sealed, memory): TargetTuple<'_>| {
            Ok((BufferName { name, dtype, shape }, sealed_buffer(sealed)?, Borrowed::write(&memory)?))
        };
        let buffers = buffers.into_iter().map(borrow).collect::<PyResult<Vec<_>>>()?;
        // Views of one array may share bytes: they are never written at the same time.
        let threads = if are_apart(buffers.iter().map(|(_, _, memory)| memory.span())) { threads } else { 1 };
        let extents = buffers.iter().filter_map(|(_, sealed, _)| sealed.extent.as_ref());
        let mapped = self.mapping.get().covering(py, extents)?;
        py.detach(|| self.reading.open(&*mapped, &buffers, threads)).map_err(|error| errors::mirror(py, error))
    }

    fn open_manifest<'py>(&self, py: Python<'py>, sealed: SealedTuple<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let sealed = sealed_buffer(sealed)?;
        let mapped = self.mapping.get().covering(py, sealed.extent.as_ref())?;
        let manifest =
            py.detach(|| self.reading.open_manifest(&*mapped, &sealed)).map_err(|error| errors::mirror(py, error))?;
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
        (_, 0) => return Err(plinius_binding::errors::pool(tags.py(), Error::corrupt("an extent in it has no bytes"))),
        _ => Some(Extent { offset, bytes }),
    };
    Ok(SealedBuffer { extent, nonces: nonces.as_bytes().to_vec(), tags: tags.as_bytes().to_vec() })
}
