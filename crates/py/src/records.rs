//! `plinius._core`'s part of sealed data sets: sealing records, and opening them in batches.

use plinius_binding::{Borrowed, ExtentTuple, extent};
use plinius_medium::Extent;
use plinius_mirror::{
    Error as MirrorError, RecordReader as CoreReader, RecordShape, seal_records as core_seal_records,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::errors;
use crate::key::{Key, parse_salt};
use crate::mapping::Mapping;

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

/// Opens records of a data set that lies in a pool.
#[pyclass(frozen, module = "plinius._core")]
pub struct RecordReader {
    mapping: Py<Mapping>,
    extent: Extent,
    reader: CoreReader,
}

#[pymethods]
impl RecordReader {
    #[new]
    fn new(
        py: Python<'_>,
        mapping: Py<Mapping>,
        key: &Key,
        derived: (Vec<u8>, Vec<u8>),
        header: Vec<u8>,
        records: (u64, usize, usize),
        records_at: ExtentTuple,
    ) -> PyResult<Self> {
        let (count, image_bytes, label_bytes) = records;
        let shape = RecordShape { header, image_bytes, label_bytes };
        let extent = extent(records_at);
        let bulk = key.0.derive(&parse_salt(&derived.0)?).and_then(|bulk| bulk.expect_commitment(&derived.1));
        let bulk = bulk.map_err(|error| errors::seal(py, error))?;
        let reader = CoreReader::new(bulk, shape, extent, count).map_err(|error| errors::mirror(py, error))?;
        Ok(Self { mapping, extent, reader })
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
        let mapped = self.mapping.get().covering(py, [&self.extent])?;
        let (images, labels) = (Borrowed::write(images)?, Borrowed::write(labels)?);
        let opened = py.detach(|| self.reader.open(&*mapped, &indices, &images, &labels, scale, threads));
        opened.map_err(|error: MirrorError| errors::mirror(py, error))
    }

    /// Checks the tags of `count` records from `first` on.
    fn verify(&self, py: Python<'_>, first: u64, count: usize, threads: usize) -> PyResult<()> {
        let mapped = self.mapping.get().covering(py, [&self.extent])?;
        py.detach(|| self.reader.verify(&*mapped, first, count, threads)).map_err(|error| errors::mirror(py, error))
    }
}
