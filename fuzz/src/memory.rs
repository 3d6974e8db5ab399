//! A pool's region in private memory. Where the real one would fault, this one panics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plinius_pm::{Error, Region, Result};

use crate::format::PAGE;

const LINE: u64 = 64;
/// The region refuses to grow beyond this. It is more than any input of the campaign has.
const LIMIT_BYTES: u64 = 1 << 20;

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    /// The file as it was at each fence since `record`.
    images: Option<Vec<Vec<u8>>>,
}

/// The region; its clones are the same medium.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    /// Holds this file, as far as it has whole pages: the rest is never mapped.
    pub fn holding(file: &[u8]) -> Self {
        let region = Self::default();
        region.inner().bytes = file[..file.len() / PAGE * PAGE].to_vec();
        region
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().bytes.clone()
    }

    /// Changes the file behind the back of whoever has it open; its length stays.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner();
        let length = inner.bytes.len();
        change(&mut inner.bytes);
        inner.bytes.resize(length, 0);
    }

    /// Keeps the file at each fence from now on: what a process that is killed there leaves.
    pub fn record(&self) {
        self.inner().images = Some(Vec::new());
    }

    /// Ends the recording; the last image is the file as it is now.
    pub fn images(&self) -> Vec<Vec<u8>> {
        self.fence();
        self.inner().images.take().unwrap_or_default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fence(&self) {
        let Inner { bytes, images } = &mut *self.inner();
        if let Some(images) = images {
            images.push(bytes.clone());
        }
    }
}

fn end(at: u64, len: u64) -> usize {
    at.checked_add(len).and_then(|end| usize::try_from(end).ok()).expect("an access beyond any address")
}

impl Region for Memory {
    fn len(&self) -> u64 {
        self.inner().bytes.len() as u64
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        out.copy_from_slice(&self.inner().bytes[at as usize..end(at, out.len() as u64)]);
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.inner().bytes[at as usize..end(at, bytes.len() as u64)].copy_from_slice(bytes);
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        self.store(at, bytes);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        let whole_lines = [from, to, len].iter().all(|number| number.is_multiple_of(LINE));
        assert!(whole_lines, "{len} bytes from {from} to {to} are not whole lines");
        assert!(from.abs_diff(to) >= len, "{len} bytes from {from} and at {to} overlap");
        let (from, to) = (from as usize..end(from, len), to as usize..end(to, len));
        let bytes = &mut self.inner().bytes;
        assert!(to.end <= bytes.len(), "a copy to {to:?} of {} bytes", bytes.len());
        bytes.copy_within(from, to.start);
    }

    fn pwb(&self, at: u64, len: u64) {
        assert!(end(at, len) <= self.inner().bytes.len(), "a write-back of {len} bytes at {at}");
    }

    fn thread_fence(&self) {}

    fn pfence(&self) -> Result<()> {
        self.fence();
        Ok(())
    }

    fn psync(&self) -> Result<()> {
        self.fence();
        Ok(())
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let mut inner = self.inner();
        assert!(bytes as usize > inner.bytes.len(), "growing from {} to {bytes} bytes", inner.bytes.len());
        if bytes > LIMIT_BYTES {
            let (what, advice) = ("the pool's medium", "use a larger one");
            return Err(Error::Full { what, needed_bytes: bytes, free_bytes: 0, advice });
        }
        inner.bytes.resize(bytes as usize, 0);
        Ok(())
    }
}
