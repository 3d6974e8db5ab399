//! `plinius._core.Key`.

use plinius_binding::Borrowed;
use plinius_medium::Target;
use plinius_seal::{Cipher, Custody, JobKey, SALT_BYTES, Salt};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use zeroize::Zeroizing;

use crate::errors;

/// A job key, held by the core and wiped when it goes.
#[pyclass(frozen, module = "plinius._core")]
pub struct Key(pub JobKey);

#[pymethods]
impl Key {
    #[staticmethod]
    fn generate(py: Python<'_>, cipher: &str) -> PyResult<Self> {
        let key = Cipher::from_name(cipher).and_then(JobKey::generate);
        key.map(Self).map_err(|error| errors::seal(py, error))
    }

    /// Reads the text of a key file and wipes it.
    #[staticmethod]
    fn parse(py: Python<'_>, text: &Bound<'_, PyByteArray>) -> PyResult<Self> {
        let memory = Borrowed::write(text.as_any())?;
        let copy = Zeroizing::new(memory.to_vec());
        memory.copy_in(0, &vec![0; copy.len()]);
        JobKey::parse(&copy).map(Self).map_err(|error| errors::seal(py, error))
    }

    /// The text of a key file, in memory that the caller can and must wipe.
    fn expose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let text = self.0.format().map_err(|error| errors::seal(py, error))?;
        Ok(PyByteArray::new(py, text.as_bytes()))
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<[u8; 8]> {
        self.0.id().map_err(|error| errors::seal(py, error))
    }

    #[getter]
    fn cipher(&self) -> &'static str {
        self.0.cipher().name()
    }

    /// How well the secret is kept: ``memfd_secret``, ``locked`` or ``plain``.
    #[getter]
    fn custody(&self) -> &'static str {
        self.0.custody().name()
    }

    /// The commitment to the key that is derived with a salt.
    fn commitment(&self, py: Python<'_>, salt: &[u8]) -> PyResult<[u8; 32]> {
        let key = self.0.derive(&parse_salt(salt)?).map_err(|error| errors::seal(py, error))?;
        Ok(*key.commitment())
    }

    /// What proves the possession of this key to an anchor outside of the pool.
    fn anchor_auth<'py>(&self, py: Python<'py>, job_id: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let auth = self.0.anchor_auth(job_id).map_err(|error| errors::seal(py, error))?;
        Ok(PyBytes::new(py, &*auth))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a key is never pickled or copied"))
    }
}

/// How well a key that this process made now would be kept.
#[pyfunction]
pub fn key_custody() -> &'static str {
    Custody::available().name()
}

/// A salt from Python.
pub fn parse_salt(salt: &[u8]) -> PyResult<Salt> {
    salt.try_into().map_err(|_| PyValueError::new_err(format!("a salt has {SALT_BYTES} bytes, not {}", salt.len())))
}
