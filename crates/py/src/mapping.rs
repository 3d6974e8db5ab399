//! `plinius._core.Mapping`: the pool's file, mapped, whoever has the pool.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use plinius_binding::{Borrowed, ExtentTuple, borrow, errors, extent};
use plinius_medium::{Claim, Error, Extent, Flush, KnownMedium, MappedFile, Region};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// A pool's file, mapped: sealed bytes are stored there and read. Where they lie, the pool says.
#[pyclass(frozen, module = "plinius._core")]
pub struct Mapping(Mutex<Option<Arc<MappedFile>>>);

impl Mapping {
    fn new(mapped: MappedFile) -> Self {
        Self(Mutex::new(Some(Arc::new(mapped))))
    }

    /// What is mapped, unless it was closed.
    pub fn open(&self, py: Python<'_>) -> PyResult<Arc<MappedFile>> {
        let mapped = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        mapped.ok_or_else(|| errors::pool(py, Error::Misuse("the pool is closed; open it again".into())))
    }

    /// What is mapped, these extents with it, unless the file ends before: the pool may have grown.
    pub fn covering<'a>(
        &self,
        py: Python<'_>,
        extents: impl IntoIterator<Item = &'a Extent>,
    ) -> PyResult<Arc<MappedFile>> {
        let mapped = self.open(py)?;
        cover(py, &mapped, extents)?;
        Ok(mapped)
    }
}

/// Maps these extents too, if the pool has grown by them.
pub fn cover<'a>(py: Python<'_>, mapped: &MappedFile, extents: impl IntoIterator<Item = &'a Extent>) -> PyResult<()> {
    let end = extents.into_iter().map(|extent| extent.offset.saturating_add(extent.bytes)).max();
    mapped.cover(end.unwrap_or(0)).map_err(|error| errors::pool(py, error))
}

#[pymethods]
impl Mapping {
    /// Maps the file of a pool that this process has open: `file` is a `plinius._pm.Lent`.
    #[staticmethod]
    fn of(py: Python<'_>, file: Bound<'_, PyAny>, flush: &str) -> PyResult<Self> {
        let flush = Flush::parse(flush).map_err(|error| errors::pool(py, error))?;
        let kept = Kept::new(file)?;
        let mapped = py.detach(|| MappedFile::map(Box::new(kept), flush, None));
        mapped.map(Self::new).map_err(|error| errors::pool(py, error))
    }

    /// Maps the file behind a descriptor, which stays the caller's, on a medium that was looked at earlier, and claims that
    /// this process alone stores there what another one commits.
    #[staticmethod]
    fn on(py: Python<'_>, medium: &Medium, fd: RawFd) -> PyResult<Self> {
        let file = Arc::new(File::from(borrow(&fd)?.try_clone_to_owned()?));
        let map = || {
            let medium = medium.0.of(&*file)?;
            Claim::Stores.take(&*file)?;
            MappedFile::map_on(medium, Box::new(file), None, None)
        };
        py.detach(map).map(Self::new).map_err(|error| errors::pool(py, error))
    }

    /// Unmaps it, when nobody uses it any more.
    fn close(&self, py: Python<'_>) {
        let mapped = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(mapped));
    }

    #[getter]
    fn durability(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.open(py)?.durability().to_string())
    }

    #[getter]
    fn medium(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.open(py)?.medium().to_string())
    }

    /// Stores bytes into an extent, starting `at` bytes into it; they are lost unless an entry names it afterwards.
    fn write(&self, py: Python<'_>, into: ExtentTuple, at: u64, memory: &Bound<'_, PyAny>) -> PyResult<()> {
        let extent = extent(into);
        let mapped = self.covering(py, [&extent])?;
        let bytes = Borrowed::read(memory)?.to_vec();
        let write = || {
            extent.stream(&*mapped, at, &bytes)?;
            mapped.thread_fence();
            mapped.settle()
        };
        py.detach(write).map_err(|error| errors::pool(py, error))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("an open pool is not pickled; a forked worker inherits it"))
    }
}

/// What lies under a file, for a process that will map it when it can look no more.
#[pyclass(frozen, module = "plinius._core")]
pub struct Medium(KnownMedium);

#[pymethods]
impl Medium {
    /// Looks at the file behind a descriptor.
    #[staticmethod]
    fn of(py: Python<'_>, fd: RawFd) -> PyResult<Self> {
        KnownMedium::look(borrow(&fd)?).map(Self).map_err(|error| errors::pool(py, error))
    }
}

/// A file that a Python object keeps open. Not a copy of its descriptor: closing one would drop the lock of the pool.
struct Kept {
    file: ManuallyDrop<File>,
    _keeper: Py<PyAny>,
}

impl Kept {
    fn new(keeper: Bound<'_, PyAny>) -> PyResult<Self> {
        if !keeper.is_instance(&keeper.py().import("plinius._pm")?.getattr("Lent")?)? {
            return Err(PyTypeError::new_err("an open pool lends its file: pool.core.lend()"));
        }
        let fd: RawFd = keeper.call_method0("fileno")?.extract()?;
        // SAFETY: `Lent` has the descriptor open for as long as it lives, and this holds it; it is never closed here.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        Ok(Self { file, _keeper: keeper.unbind() })
    }
}

impl Deref for Kept {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}
