//! The medium: what is durable, and which of the later stores may have reached it when the power goes.
//!
//! **Cache lines** (persistent memory). The plain stores of a line reach the medium in their order: any number of them,
//! and of the next one, which may be wide, any of its eight-byte words. They may do so at any time, since a line may be
//! evicted; a write-back followed by a fence of the same thread makes certain those before the write-back. A
//! streamed word reaches the medium or not, alone, and is certain after a fence of the thread that streamed it. It
//! is independent of the plain stores of its line (real caches order them in part, so this allows more); of the stores
//! to one word the later one counts.
//!
//! **Files**. The kernel writes pages when it likes and in any order, and may read a page while it is stored to; a disk
//! may tear it into sectors, and here even a sector is torn: each eight-byte word by itself is any that was there
//! since the last sync. Write-backs and the fences of the workers mean nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::image::{Hash, Image, Word, hash, length_hash, load, mix, word_hash};
use crate::record::{Event, Log, Site};

/// Bytes of a cache line.
pub const LINE: u64 = 64;
/// Words of a line.
pub const WORDS: usize = 8;

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Persistent memory behind caches.
    Lines,
    /// An ordinary file.
    File,
}

impl Kind {
    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "cache lines",
            Self::File => "file",
        }
    }
}

/// The flush or fence that a mutant lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Removed {
    /// The line of code.
    pub site: Site,
    /// In this thread, as its recording counts them; `None`: in all.
    pub thread: Option<u32>,
}

/// Why and when a write is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A plain store; stores are counted.
    Stored(u32),
    /// A streamed one, and the thread.
    Streamed(u32),
}

/// A write to one word that may or may not have reached the medium.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Which word of the line.
    pub word: u8,
    /// Which bits of it.
    pub mask: u64,
    /// What they become.
    pub value: u64,
    /// How it was written.
    pub how: How,
}

impl Write {
    /// What a word becomes.
    #[inline]
    pub fn over(&self, word: u64) -> u64 {
        word & !self.mask | self.value
    }
}

/// A medium at one moment of a recording.
#[derive(Clone)]
pub struct Medium {
    kind: Kind,
    removed: Option<Removed>,
    durable: Arc<Vec<u8>>,
    hash: Hash,
    pending: BTreeMap<u64, Vec<Write>>,
    write_backs: Vec<WriteBack>,
    stores: u32,
}

#[derive(Clone, Copy)]
struct WriteBack {
    thread: u32,
    first: u64,
    last: u64,
    stores: u32,
}

impl Medium {
    /// A medium on which these bytes are durable, whose hash is known.
    pub fn holding(kind: Kind, removed: Option<Removed>, durable: Arc<Vec<u8>>, hash: Hash) -> Self {
        Self { kind, removed, durable, hash, pending: BTreeMap::new(), write_backs: Vec::new(), stores: 0 }
    }

    /// The same, for bytes whose hash is not known.
    pub fn of_file(kind: Kind, removed: Option<Removed>, durable: Vec<u8>) -> Self {
        let hash = hash(&durable);
        Self::holding(kind, removed, Arc::new(durable), hash)
    }

    /// Which rules hold.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is durable.
    pub fn durable(&self) -> &Arc<Vec<u8>> {
        &self.durable
    }

    /// The hash of what is durable.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.durable.len() as u64
    }

    /// The image of these words beside what is durable.
    pub fn image(&self, hash: Hash, words: Vec<Word>) -> Image {
        Image { hash, base: self.durable.clone(), len: self.bytes(), words }
    }

    /// What may have reached the medium beside it: by line, in the order of the stores.
    pub fn pending(&self) -> &BTreeMap<u64, Vec<Write>> {
        &self.pending
    }

    /// The durable word at `at`.
    #[inline]
    pub fn word(&self, at: u64) -> u64 {
        load(&self.durable[at as usize..(at as usize + 8).min(self.durable.len())])
    }

    /// A hash of everything that decides about the future: two media with the same one behave alike.
    pub fn state_hash(&self) -> Hash {
        self.hash ^ self.pending_hash()
    }

    /// A hash of what is not durable yet, and over what.
    pub fn pending_hash(&self) -> Hash {
        let write_backs = self.write_backs.iter();
        let write_backs =
            write_backs.flat_map(|back| [u64::from(back.thread), back.first, back.last, back.stores.into()]);
        let writes = self.pending.iter().flat_map(|(line, writes)| {
            writes.iter().flat_map(move |write| {
                let how = match write.how {
                    How::Stored(store) => u64::from(store) << 1,
                    How::Streamed(thread) => u64::from(thread) << 1 | 1,
                };
                let at = line * LINE + 8 * u64::from(write.word);
                [at, how, write.mask, write.value, self.word(at)]
            })
        });
        let chained = |state: Hash, word| state.rotate_left(13) ^ word_hash((state as u64, mix(word) | 1));
        write_backs.chain(writes).fold(1, chained)
    }

    /// Applies what happened next.
    pub fn apply(&mut self, event: &Event, log: &Log) {
        match event {
            Event::Store { at, bytes } => {
                self.stores += 1;
                self.write(*at, log.bytes(bytes), How::Stored(self.stores));
            }
            Event::Stream { thread, at, bytes } => self.write(*at, log.bytes(bytes), How::Streamed(*thread)),
            Event::WriteBack { thread, at, len, site } if *len > 0 && !self.lacks(*thread, site) => {
                let (first, last) = (at / LINE, (at + len - 1) / LINE);
                self.write_backs.push(WriteBack { thread: *thread, first, last, stores: self.stores });
            }
            Event::Fence { thread, syncs, site } if !self.lacks(*thread, site) => self.fence(*thread, *syncs),
            Event::Grow { to } => self.grow(*to),
            Event::WriteBack { .. } | Event::Fence { .. } | Event::Mark => {}
        }
    }

    /// Whether this is the flush or fence that the mutant lacks.
    fn lacks(&self, thread: u32, site: &Site) -> bool {
        let lacks = |removed: Removed| removed.site == *site && removed.thread.is_none_or(|lacking| lacking == thread);
        self.removed.is_some_and(lacks)
    }

    fn grow(&mut self, to: u64) {
        self.hash ^= length_hash(self.durable.len() as u64) ^ length_hash(to);
        Arc::make_mut(&mut self.durable).resize(to as usize, 0);
    }

    fn write(&mut self, mut at: u64, mut bytes: &[u8], how: How) {
        while !bytes.is_empty() {
            let within = at % 8;
            let (here, rest) = bytes.split_at(bytes.len().min(8 - within as usize));
            let mask = (u64::MAX >> (64 - 8 * here.len())) << (8 * within);
            self.write_word(at - within, mask, load(here) << (8 * within), how);
            (at, bytes) = (at + here.len() as u64, rest);
        }
    }

    fn write_word(&mut self, at: u64, mask: u64, value: u64, how: How) {
        let durable = self.word(at);
        let write = Write { word: (at % LINE / 8) as u8, mask, value, how };
        match self.pending.get_mut(&(at / LINE)) {
            // It changes nothing, whether it reaches the medium or not.
            None if write.over(durable) == durable => {}
            None => drop(self.pending.insert(at / LINE, vec![write])),
            Some(line) => {
                let is_first = line.iter().all(|other| other.word != write.word);
                if !(is_first && write.over(durable) == durable) {
                    line.push(write);
                }
            }
        }
    }

    fn fence(&mut self, thread: u32, syncs: bool) {
        if self.kind == Kind::File {
            if syncs {
                self.settle(|_, _| true);
            }
            return;
        }
        let write_backs = std::mem::take(&mut self.write_backs);
        let (own, others): (Vec<_>, Vec<_>) = write_backs.into_iter().partition(|back| back.thread == thread);
        self.write_backs = others;
        self.settle(|line, how| match how {
            How::Streamed(by) => by == thread,
            How::Stored(store) => {
                own.iter().any(|back| (back.first..=back.last).contains(&line) && store <= back.stores)
            }
        });
    }

    /// Makes certain what `certain` says, and with it forgets what was stored to the same bits before.
    fn settle(&mut self, certain: impl Fn(u64, How) -> bool) {
        let mut pending = std::mem::take(&mut self.pending);
        for (line, writes) in &mut pending {
            let mut settled = [0_u64; WORDS];
            for at in (0..writes.len()).rev() {
                let write = writes[at];
                let (word, left) = (usize::from(write.word), write.mask & !settled[usize::from(write.word)]);
                if certain(*line, write.how) {
                    let effect = Write { mask: left, value: write.value & left, ..write };
                    self.set(line * LINE + 8 * word as u64, effect);
                    settled[word] |= write.mask;
                    writes[at].mask = 0;
                } else {
                    writes[at].mask = left;
                    writes[at].value &= left;
                }
            }
            writes.retain(|write| write.mask != 0);
        }
        pending.retain(|_, writes| !writes.is_empty());
        self.pending = pending;
    }

    fn set(&mut self, at: u64, write: Write) {
        let old = self.word(at);
        let new = write.over(old);
        if old != new {
            self.hash ^= word_hash((at, old)) ^ word_hash((at, new));
            Arc::make_mut(&mut self.durable)[at as usize..][..8].copy_from_slice(&new.to_le_bytes());
        }
    }
}
