//! A medium in memory of any length that counts what is asked of it. Pages of zeros cost nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plinius_pm::{Error, Region, Result};

const PAGE: u64 = 4096;
const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// Bytes that went through each operation, and how many fences there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub loaded: u64,
    pub stored: u64,
    pub copied: u64,
    pub written_back: u64,
    pub fences: u64,
}

#[derive(Default)]
struct Inner {
    pages: HashMap<u64, Box<[u8; PAGE as usize]>>,
    len: u64,
    counts: Counts,
    fences_until_failure: Option<u64>,
}

/// The region; its clones are the same medium.
#[derive(Clone, Default)]
pub struct Sparse(Arc<Mutex<Inner>>);

#[allow(dead_code, reason = "each test crate uses its own part")]
impl Sparse {
    /// What `work` asks for.
    pub fn count(&self, work: impl FnOnce()) -> Counts {
        self.inner().counts = Counts::default();
        work();
        self.inner().counts
    }

    /// Lets one fence fail, the one after `fences` more: a disk that says once that it is broken.
    pub fn fail_once_after(&self, fences: u64) {
        self.inner().fences_until_failure = Some(fences);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fence(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.counts.fences += 1;
        let left = inner.fences_until_failure;
        inner.fences_until_failure = left.and_then(|left| left.checked_sub(1));
        match left {
            Some(0) => {
                let source = std::io::Error::other("the medium is broken");
                Err(Error::Io { action: "writing the pool to its medium", source })
            }
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn read(&self, at: u64, out: &mut [u8]) {
        assert!(at + out.len() as u64 <= self.len, "{} bytes at {at} of {}", out.len(), self.len);
        let mut done = 0;
        while done < out.len() {
            let (page, start, part) = piece(at + done as u64, out.len() - done);
            match self.pages.get(&page) {
                Some(bytes) => out[done..done + part].copy_from_slice(&bytes[start..start + part]),
                None => out[done..done + part].fill(0),
            }
            done += part;
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= self.len, "{} bytes at {at} of {}", bytes.len(), self.len);
        let mut done = 0;
        while done < bytes.len() {
            let (page, start, part) = piece(at + done as u64, bytes.len() - done);
            let bytes = &bytes[done..done + part];
            if self.pages.contains_key(&page) || *bytes != ZEROS[..part] {
                let held = self.pages.entry(page).or_insert_with(|| Box::new(ZEROS));
                held[start..start + part].copy_from_slice(bytes);
            }
            done += part;
        }
    }
}

/// The page of an address, the place in it, and how many of `len` bytes lie in it.
fn piece(at: u64, len: usize) -> (u64, usize, usize) {
    let start = (at % PAGE) as usize;
    (at / PAGE, start, len.min(PAGE as usize - start))
}

impl Region for Sparse {
    fn len(&self) -> u64 {
        self.inner().len
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        let mut inner = self.inner();
        inner.counts.loaded += out.len() as u64;
        inner.read(at, out);
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.counts.stored += bytes.len() as u64;
        inner.write(at, bytes);
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        self.store(at, bytes);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        let mut inner = self.inner();
        inner.counts.copied += len;
        let mut bytes = vec![0; len as usize];
        inner.read(from, &mut bytes);
        inner.write(to, &bytes);
    }

    fn pwb(&self, _at: u64, len: u64) {
        self.inner().counts.written_back += len;
    }

    fn thread_fence(&self) {}

    fn pfence(&self) -> Result<()> {
        self.fence()
    }

    fn psync(&self) -> Result<()> {
        self.fence()
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        self.inner().len = bytes;
        Ok(())
    }
}
