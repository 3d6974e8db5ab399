//! `plinius._core`'s classes for sealed data sets: sealing records, loading them into a pool, opening batches.

use plinius_mirror::{
    Error as MirrorError, RecordReader as CoreReader, RecordShape, seal_records as core_seal_records,
};
use plinius_pm::{Entry, Extent, Reserved};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::errors;
use crate::key::{Key, parse_salt};
use crate::memory::Borrowed;
use crate::pool::Pool;

/// Seals consecutive records, the first of which has index `first`.
#[pyfunction]
pub fn seal_records<'py>(
    py: Python<'py>,
    key: &Key,
    salt: &[u8],
    header: Vec<u8>,
    first: u64,
    images: (usize, Bound<'py, PyAny>),
    labels: (usize, Bound<'py, PyAny>),
) -> PyResult<Bound<'py, PyBytes>> {
    let shape = RecordShape { header, image_bytes: images.0, label_bytes: labels.0 };
    let images = Zeroizing::new(Borrowed::read(&images.1)?.to_vec());
    let labels = Zeroizing::new(Borrowed::read(&labels.1)?.to_vec());
    let salt = parse_salt(salt)?;
    let sealed = py.detach(|| core_seal_records(&key.0.derive(&salt)?, &shape, first, &images, &labels));
    Ok(PyBytes::new(py, &sealed.map_err(|error| errors::mirror(py, error))?))
}

/// Space in a pool that is filled with sealed bytes as they are and then named.
#[pyclass(module = "plinius._core")]
pub struct Loading {
    pool: Py<Pool>,
    reserved: Option<Reserved>,
    extent: Extent,
}

#[pymethods]
impl Loading {
    #[new]
    fn new(py: Python<'_>, pool: Py<Pool>, length: u64) -> PyResult<Self> {
        let core = pool.get().open(py)?;
        let reserved = py.detach(|| core.reserve(&[length])).map_err(|error| errors::pool(py, error))?;
        let extent = *reserved.extents().first().ok_or_else(|| PyRuntimeError::new_err("nothing was reserved"))?;
        Ok(Self { pool, reserved: Some(reserved), extent })
    }

    /// Offset and length.
    #[getter]
    fn extent(&self) -> (u64, u64) {
        (self.extent.offset, self.extent.bytes)
    }

    fn write(&self, py: Python<'_>, at: u64, memory: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Borrowed::read(memory)?.to_vec();
        let reserved = self.reserved.as_ref().ok_or_else(ended)?;
        let write = || reserved.write(0, at, &bytes).inspect(|()| reserved.fence());
        py.detach(write).map_err(|error| errors::pool(py, error))
    }

    /// Gives the space back. An error's traceback may hold this for long, and with it the pool.
    fn abandon(&mut self, py: Python<'_>) {
        let reserved = self.reserved.take();
        py.detach(|| drop(reserved));
    }

    fn commit(&mut self, py: Python<'_>, name: String, meta: Vec<u8>) -> PyResult<()> {
        let reserved = self.reserved.take().ok_or_else(ended)?;
        let entry = Entry { name, meta, block: 0, extents: vec![self.extent] };
        let pool = self.pool.get().open(py)?;
        py.detach(|| pool.commit(&entry, reserved)).map_err(|error| errors::pool(py, error))
    }
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("this loading has ended")
}

/// Opens records of a data set that lies in a pool.
#[pyclass(frozen, module = "plinius._core")]
pub struct RecordReader {
    pool: Py<Pool>,
    reader: CoreReader,
}

#[pymethods]
impl RecordReader {
    #[new]
    fn new(
        py: Python<'_>,
        pool: Py<Pool>,
        key: &Key,
        derived: (Vec<u8>, Vec<u8>),
        header: Vec<u8>,
        records: (u64, usize, usize),
        extent: (u64, u64),
    ) -> PyResult<Self> {
        let (count, image_bytes, label_bytes) = records;
        let shape = RecordShape { header, image_bytes, label_bytes };
        let extent = Extent { offset: extent.0, bytes: extent.1 };
        let bulk = key.0.derive(&parse_salt(&derived.0)?).and_then(|bulk| bulk.expect_commitment(&derived.1));
        let bulk = bulk.map_err(|error| errors::seal(py, error))?;
        let reader = CoreReader::new(bulk, shape, extent, count).map_err(|error| errors::mirror(py, error))?;
        Ok(Self { pool, reader })
    }

    /// Opens the records of `indices` into the two targets; `scale` turns bytes into floats from 0 to 1.
    fn open(
        &self,
        py: Python<'_>,
        indices: Vec<u64>,
        images: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
        scale: bool,
        threads: usize,
    ) -> PyResult<()> {
        let pool = self.pool.get().open(py)?;
        let (images, labels) = (Borrowed::write(images)?, Borrowed::write(labels)?);
        let opened = py.detach(|| self.reader.open(&pool, &indices, &images, &labels, scale, threads));
        opened.map_err(|error: MirrorError| errors::mirror(py, error))
    }

    /// Checks the tags of `count` records from `first` on.
    fn verify(&self, py: Python<'_>, first: u64, count: usize, threads: usize) -> PyResult<()> {
        let pool = self.pool.get().open(py)?;
        py.detach(|| self.reader.verify(&pool, first, count, threads)).map_err(|error| errors::mirror(py, error))
    }
}
