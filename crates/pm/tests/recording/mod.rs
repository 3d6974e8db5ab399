//! A medium in memory that records what a crash could leave of it.
//!
//! Loads see every store at once, as the CPU's caches do. The medium itself holds only what was written back and fenced;
//! of the rest any eight-byte word may or may not have reached it when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plinius_pm::{Error, Region, Result};

const LINE: usize = 64;

/// What a crash leaves.
#[allow(dead_code, reason = "each test crate uses its own part")]
pub struct Image {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// What the test had marked as reached when the crash came.
    pub mark: usize,
}

#[derive(Default)]
struct Inner {
    /// What loads see; a killed process leaves this.
    cache: Vec<u8>,
    /// What is certain to survive a power failure.
    durable: Vec<u8>,
    /// Lines that differ, or may.
    dirty: BTreeSet<usize>,
    /// Lines that were written back since the last fence, as they were then.
    written_back: BTreeMap<usize, Vec<u8>>,
    mark: usize,
    images: Option<Vec<Image>>,
    random: u64,
    fences: usize,
    fences_until_failure: Option<usize>,
    limit_bytes: Option<u64>,
}

/// The region; its clones are the same medium.
#[derive(Clone, Default)]
pub struct Recording(Arc<Mutex<Inner>>);

#[allow(dead_code, reason = "each test crate uses its own part")]
impl Recording {
    /// A medium that holds this file.
    pub fn holding(bytes: &[u8]) -> Self {
        let region = Self::default();
        region.inner().cache = bytes.to_vec();
        region.inner().durable = bytes.to_vec();
        region
    }

    /// Keeps images of every crash from now on: at each operation one of a killed process, one of a power failure that
    /// loses all it may, and two of one that loses some words.
    pub fn record(&self) {
        self.inner().images = Some(Vec::new());
    }

    /// Ends the recording and returns the images.
    pub fn images(&self) -> Vec<Image> {
        let mut inner = self.inner();
        inner.remember();
        inner.images.take().unwrap_or_default()
    }

    /// Says how far the test has come.
    pub fn mark(&self, mark: usize) {
        self.inner().mark = mark;
    }

    /// How many fences there were.
    pub fn fences(&self) -> usize {
        self.inner().fences
    }

    /// Lets every fence from the one after `fences` more on fail, as a broken disk does; `None`: it was repaired.
    pub fn fail_after(&self, fences: Option<usize>) {
        self.inner().fences_until_failure = fences;
    }

    /// Refuses to grow beyond this.
    pub fn limit(&self, bytes: u64) {
        self.inner().limit_bytes = Some(bytes);
    }

    /// What a killed process leaves now.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().cache.clone()
    }

    /// What a power failure leaves now at the least.
    pub fn durable(&self) -> Vec<u8> {
        self.inner().durable.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fence(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.remember();
        inner.fences += 1;
        if let Some(left) = inner.fences_until_failure.as_mut() {
            if *left == 0 {
                let source = std::io::Error::other("the medium is broken");
                return Err(Error::Io { action: "writing the pool to its medium", source });
            }
            *left -= 1;
        }
        for (at, line) in std::mem::take(&mut inner.written_back) {
            inner.durable[at..at + LINE].copy_from_slice(&line);
            if inner.cache[at..at + LINE] == line {
                inner.dirty.remove(&at);
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Keeps the images of a crash at this moment.
    fn remember(&mut self) {
        if self.images.is_none() {
            return;
        }
        let torn = [self.torn(), self.torn()];
        let mark = self.mark;
        let all = [self.cache.clone(), self.durable.clone()].into_iter().chain(torn);
        if let Some(images) = self.images.as_mut() {
            images.extend(all.map(|bytes| Image { bytes, mark }));
        }
    }

    /// The durable bytes with some of the dirty words.
    fn torn(&mut self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for &line in &self.dirty {
            for at in (line..line + LINE).step_by(8) {
                self.random =
                    self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if self.random >> 63 == 1 {
                    bytes[at..at + 8].copy_from_slice(&self.cache[at..at + 8]);
                }
            }
        }
        bytes
    }
}

impl Region for Recording {
    fn len(&self) -> u64 {
        self.inner().cache.len() as u64
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        out.copy_from_slice(&self.inner().cache[at as usize..][..out.len()]);
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.remember();
        let at = at as usize;
        inner.cache[at..at + bytes.len()].copy_from_slice(bytes);
        inner.dirty.extend((at / LINE * LINE..at + bytes.len()).step_by(LINE));
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        self.store(at, bytes);
        self.pwb(at, bytes.len() as u64);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        let mut bytes = vec![0; len as usize];
        self.load(from, &mut bytes);
        self.stream(to, &bytes);
    }

    fn pwb(&self, at: u64, len: u64) {
        let mut inner = self.inner();
        let lines = (at as usize / LINE * LINE..(at + len) as usize).step_by(LINE);
        for line in lines {
            let bytes = inner.cache[line..line + LINE].to_vec();
            inner.written_back.insert(line, bytes);
        }
    }

    fn thread_fence(&self) {}

    fn pfence(&self) -> Result<()> {
        self.fence()
    }

    fn psync(&self) -> Result<()> {
        self.fence()
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let mut inner = self.inner();
        inner.remember();
        let (needed_bytes, old) = (bytes, inner.cache.len() as u64);
        if inner.limit_bytes.is_some_and(|limit| bytes > limit) {
            let advice = "use a larger one";
            return Err(Error::Full { what: "the pool's medium", needed_bytes, free_bytes: old, advice });
        }
        inner.cache.resize(bytes as usize, 0);
        inner.durable.resize(bytes as usize, 0);
        Ok(())
    }
}
