//! A region in memory that writes down every store, write-back and fence, with its thread and its line of code.

use std::ops::Range;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use plinius_pm::{Region, Result};

/// One flush or fence of the code.
pub type Site = &'static Location<'static>;

/// What the code did to the medium. Threads are numbered: 0 made the region, the others follow as they are first seen.
#[derive(Clone, Debug)]
pub enum Event {
    /// Plain stores, eight bytes each, in any order among themselves.
    Store {
        /// From the start of the pool.
        at: u64,
        /// Where the log keeps the bytes.
        bytes: Range<usize>,
    },
    /// Non-temporal stores.
    Stream {
        /// Who wrote them.
        thread: u32,
        /// From the start of the pool.
        at: u64,
        /// Where the log keeps the bytes.
        bytes: Range<usize>,
    },
    /// The write-back of the lines that hold a range.
    WriteBack {
        /// Who asked for it.
        thread: u32,
        /// From the start of the pool.
        at: u64,
        /// Length of the range.
        len: u64,
        /// The line of code.
        site: Site,
    },
    /// A fence.
    Fence {
        /// Whose writes it orders.
        thread: u32,
        /// Whether it is one of those that an ordinary file makes everything durable at.
        syncs: bool,
        /// The line of code.
        site: Site,
    },
    /// The file was lengthened.
    Grow {
        /// Its new length.
        to: u64,
    },
    /// The program reported that something is done: its states before are no legal outcome any more.
    Mark,
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// One after the other.
    pub events: Vec<Event>,
    bytes: Vec<u8>,
}

impl Log {
    /// The bytes that an event wrote.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn hasten_words(&mut self) {
        for at in 2..self.events.len() {
            let is_word = matches!(&self.events[at - 1], Event::Store { bytes, .. } if bytes.len() == 8);
            let is_fence = matches!(self.events[at - 2], Event::Fence { .. });
            if is_fence && is_word && matches!(self.events[at], Event::WriteBack { len: 8, .. }) {
                self.events[at - 2..=at].rotate_left(1);
            }
        }
    }
}

/// A defect that is no missing flush or fence, to see that such are found too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Between two fences the first copy is lost.
    CopyLost,
    /// Between two fences the first write-back of whole lines and the first copy are lost, as if the log of a
    /// transaction had forgotten its first range.
    RangeForgotten,
    /// A word that is stored and written back right behind a fence is stored and written back before it.
    WordEarly,
}

#[derive(Default)]
struct Inner {
    cache: Vec<u8>,
    log: Log,
    threads: Vec<ThreadId>,
    fault: Option<Fault>,
    lost_write_back: bool,
    lost_copy: bool,
}

/// The region; its clones are the same.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

impl Recorder {
    /// A pool file with these bytes, all of them durable.
    pub fn holding(bytes: Vec<u8>) -> Self {
        let threads = vec![thread::current().id()];
        Self(Arc::new(Mutex::new(Inner { cache: bytes, threads, ..Inner::default() })))
    }

    /// The same with a defect.
    pub fn with_fault(self, fault: Option<Fault>) -> Self {
        self.inner().fault = fault;
        self
    }

    /// What a killed process leaves now.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().cache.clone()
    }

    /// Takes what was recorded so far.
    pub fn take(&self) -> Log {
        let mut inner = self.inner();
        let mut log = std::mem::take(&mut inner.log);
        if inner.fault == Some(Fault::WordEarly) {
            log.hasten_words();
        }
        log
    }

    /// The program reports that something is done.
    pub fn mark(&self) {
        self.inner().log.events.push(Event::Mark);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    fn fence(&self, syncs: bool) {
        let mut inner = self.inner();
        let thread = inner.thread();
        (inner.lost_write_back, inner.lost_copy) = (false, false);
        inner.log.events.push(Event::Fence { thread, syncs, site: Location::caller() });
    }
}

impl Inner {
    fn thread(&mut self) -> u32 {
        let own = thread::current().id();
        let known = self.threads.iter().position(|thread| *thread == own);
        let number = known.unwrap_or_else(|| {
            self.threads.push(own);
            self.threads.len() - 1
        });
        number as u32
    }

    fn streamed(&mut self, at: u64, bytes: Range<usize>) {
        let thread = self.thread();
        self.cache[at as usize..][..bytes.len()].copy_from_slice(self.log.bytes(&bytes));
        self.log.events.push(Event::Stream { thread, at, bytes });
    }
}

impl Region for Recorder {
    fn len(&self) -> u64 {
        self.inner().cache.len() as u64
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        out.copy_from_slice(&self.inner().cache[at as usize..][..out.len()]);
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.cache[at as usize..][..bytes.len()].copy_from_slice(bytes);
        let bytes = inner.log.keep(bytes);
        inner.log.events.push(Event::Store { at, bytes });
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        let mut inner = self.inner();
        let bytes = inner.log.keep(bytes);
        inner.streamed(at, bytes);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        assert!(from.is_multiple_of(64) && to.is_multiple_of(64) && len.is_multiple_of(64), "copies are whole lines");
        assert!(from + len <= to || to + len <= from, "a copy does not overlap");
        let mut guard = self.inner();
        let inner = &mut *guard;
        let faulty = matches!(inner.fault, Some(Fault::CopyLost | Fault::RangeForgotten));
        if faulty && !std::mem::replace(&mut inner.lost_copy, true) {
            return;
        }
        let bytes = inner.log.keep(&inner.cache[from as usize..][..len as usize]);
        inner.streamed(to, bytes);
    }

    fn pwb(&self, at: u64, len: u64) {
        let mut inner = self.inner();
        let faulty = inner.fault == Some(Fault::RangeForgotten) && len >= 64;
        if faulty && !std::mem::replace(&mut inner.lost_write_back, true) {
            return;
        }
        let thread = inner.thread();
        inner.log.events.push(Event::WriteBack { thread, at, len, site: Location::caller() });
    }

    fn thread_fence(&self) {
        self.fence(false);
    }

    fn pfence(&self) -> Result<()> {
        self.fence(true);
        Ok(())
    }

    fn psync(&self) -> Result<()> {
        self.fence(true);
        Ok(())
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let mut inner = self.inner();
        inner.cache.resize(bytes as usize, 0);
        inner.log.events.push(Event::Grow { to: bytes });
        Ok(())
    }
}
