//! Romulus (Correia, Felber, Ramalhete, SPAA 2018): durable transactions over two copies of the heap.
//!
//! `main` is changed in place; `back` is the last committed state. The state word says which of the two is whole:
//! `Mutating`: back is, `Copying`: main is, `Idle`: both are. A transaction costs four fences, whatever its size.

use crate::error::{Error, Result};
use crate::region::{LINE, Region, load_u64};
use crate::superblock::{STATE_OFFSET, Superblock};

/// Bytes at the start of the heap that hold its own words, see `docs/design.md`.
pub const HEAP_HEADER_BYTES: u64 = 64;
const USED_OFFSET: u64 = 0;
/// Where the heap's header counts the transactions.
pub const COMMITS_OFFSET: u64 = 8;

/// More ranges than this cost more to sort and copy one by one than the whole used heap usually does.
const MAX_LOGGED_RANGES: usize = 4096;
const COPY_BYTES: usize = 64 * 1024;

/// What the state word says. The values are far apart, so that a damaged word is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No transaction runs: main and back are equal.
    Idle,
    /// Main is being changed: back is whole.
    Mutating,
    /// Main is whole and durable: it is being copied to back.
    Copying,
}

impl State {
    const WORDS: [(Self, u64); 3] = [
        (Self::Idle, 0x1d1e_1d1e_1d1e_1d1e),
        (Self::Mutating, 0x3a7a_3a7a_3a7a_3a7a),
        (Self::Copying, 0xc0b1_c0b1_c0b1_c0b1),
    ];

    /// Reads a state word; any value but the three is damage.
    pub fn parse(word: u64) -> Result<Self> {
        let found = Self::WORDS.iter().find(|(_, known)| *known == word);
        found.map(|(state, _)| *state).ok_or_else(|| Error::corrupt(format!("its state word is {word:#018x}")))
    }

    /// The word on the medium.
    pub fn word(self) -> u64 {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or(0, |(_, word)| *word)
    }
}

/// Writes the state word and starts its write-back; the caller fences.
pub fn write_state<R: Region>(region: &R, state: State) {
    region.store(STATE_OFFSET, &state.word().to_le_bytes());
    region.pwb(STATE_OFFSET, 8);
}

/// Prepares both heaps and the state word of a new pool; the caller fences.
pub fn format<R: Region>(region: &R, layout: &Superblock) {
    let mut header = [0; HEAP_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&HEAP_HEADER_BYTES.to_le_bytes());
    for heap in [layout.main_offset, layout.back_offset] {
        region.store(heap, &header);
        region.pwb(heap, HEAP_HEADER_BYTES);
    }
    write_state(region, State::Idle);
}

/// Makes main and back equal again after a crash. It may itself be cut by a crash and repeated.
pub fn recover<R: Region>(region: &R, layout: &Superblock) -> Result<()> {
    let (from, to) = match State::parse(load_u64(region, STATE_OFFSET))? {
        State::Idle => return Ok(()),
        State::Mutating => (layout.back_offset, layout.main_offset),
        State::Copying => (layout.main_offset, layout.back_offset),
    };
    copy(region, from, to, 0, used_bytes(region, from, layout)?);
    // ORDER: the copy is durable before the state says that both are equal.
    region.pfence()?;
    write_state(region, State::Idle);
    region.psync()
}

/// How much of the heap at `heap` is in use, checked.
pub fn used_bytes<R: Region>(region: &R, heap: u64, layout: &Superblock) -> Result<u64> {
    check_used(load_u64(region, heap + USED_OFFSET), layout.heap_bytes)
}

/// Checks the first word of a heap.
pub fn check_used(used: u64, heap_bytes: u64) -> Result<u64> {
    if (HEAP_HEADER_BYTES..=heap_bytes).contains(&used) && used.is_multiple_of(16) {
        return Ok(used);
    }
    Err(Error::corrupt(format!("its heap says that {used} of {heap_bytes} bytes are in use")))
}

fn copy<R: Region>(region: &R, from: u64, to: u64, start: u64, end: u64) {
    let mut buffer = [0; COPY_BYTES];
    let mut at = start;
    while at < end {
        let part = &mut buffer[..(end - at).min(COPY_BYTES as u64) as usize];
        region.load(from + at, part);
        region.store(to + at, part);
        region.pwb(to + at, part.len() as u64);
        at += part.len() as u64;
    }
}

/// Reading and writing the heap by offsets from its start.
pub trait Heap {
    /// Length of the heap.
    fn heap_bytes(&self) -> u64;
    /// Copies bytes out of the heap; the range was checked against `heap_bytes`.
    fn load(&self, at: u64, out: &mut [u8]);

    /// Reads one word.
    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.load(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// How much of the heap is in use.
    fn used(&self) -> Result<u64> {
        check_used(self.word(USED_OFFSET), self.heap_bytes())
    }

    /// How many transactions were committed.
    fn commits(&self) -> u64 {
        self.word(COMMITS_OFFSET)
    }
}

/// A heap that is only read.
pub struct MainHeap<'a, R: Region> {
    region: &'a R,
    layout: &'a Superblock,
}

impl<'a, R: Region> MainHeap<'a, R> {
    /// The main heap of a pool; the caller holds the lock that keeps writers away.
    pub fn new(region: &'a R, layout: &'a Superblock) -> Self {
        Self { region, layout }
    }
}

impl<R: Region> Heap for MainHeap<'_, R> {
    fn heap_bytes(&self) -> u64 {
        self.layout.heap_bytes
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        self.region.load(self.layout.main_offset + at, out);
    }
}

/// A running transaction. Dropping it without `commit` rolls it back.
pub struct Transaction<'a, R: Region> {
    region: &'a R,
    layout: &'a Superblock,
    log: RangeLog,
    mutating: bool,
}

impl<'a, R: Region> Transaction<'a, R> {
    /// Starts a transaction; it costs nothing until the first store. The caller holds the writers' lock.
    pub fn begin(region: &'a R, layout: &'a Superblock) -> Self {
        Self { region, layout, log: RangeLog::default(), mutating: false }
    }

    /// Stores into main, interposed: the range is logged, to be flushed and copied at the commit.
    pub fn store(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if !self.mutating {
            write_state(self.region, State::Mutating);
            // ORDER: fence 1 of 4. Main changes only after the medium knows that back is the one to trust.
            self.region.pfence()?;
            self.mutating = true;
        }
        self.region.store(self.layout.main_offset + at, bytes);
        self.log.add(at, bytes.len() as u64);
        Ok(())
    }

    /// Stores one word.
    pub fn store_word(&mut self, at: u64, word: u64) -> Result<()> {
        self.store(at, &word.to_le_bytes())
    }

    /// Sets how much of the heap is in use.
    pub fn set_used(&mut self, used: u64) -> Result<()> {
        self.store_word(USED_OFFSET, used)
    }

    /// Makes the transaction durable.
    ///
    /// # Errors
    /// After an I/O error of the medium nobody knows what is durable: the pool must be closed and opened again.
    pub fn commit(mut self) -> Result<()> {
        if !self.mutating {
            return Ok(());
        }
        self.store_word(COMMITS_OFFSET, self.commits().wrapping_add(1))?;
        let ranges = self.log.ranges(self.used()?);
        for &(start, end) in &ranges {
            self.region.pwb(self.layout.main_offset + start, end - start);
        }
        // ORDER: fence 2 of 4. Main is whole on the medium before the state says so.
        self.region.pfence()?;
        // From here on main is the one to trust: a failing medium must not make us roll it back.
        self.mutating = false;
        write_state(self.region, State::Copying);
        // ORDER: fence 3 of 4. The transaction is durable here.
        self.region.psync()?;
        for &(start, end) in &ranges {
            copy(self.region, self.layout.main_offset, self.layout.back_offset, start, end);
        }
        // ORDER: fence 4 of 4. Back is equal before the state says so. The state itself needs no fence of its own: if
        // `Idle` is lost, recovery copies main to back once more, and the next transaction's word lies in the same line.
        self.region.pfence()?;
        write_state(self.region, State::Idle);
        Ok(())
    }

    fn roll_back(&mut self) -> Result<()> {
        let used = used_bytes(self.region, self.layout.back_offset, self.layout)?;
        for (start, end) in self.log.ranges(used) {
            copy(self.region, self.layout.back_offset, self.layout.main_offset, start, end);
        }
        // ORDER: main is equal to back again before the state says so.
        self.region.pfence()?;
        write_state(self.region, State::Idle);
        Ok(())
    }
}

impl<R: Region> Heap for Transaction<'_, R> {
    fn heap_bytes(&self) -> u64 {
        self.layout.heap_bytes
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        self.region.load(self.layout.main_offset + at, out);
    }
}

impl<R: Region> Drop for Transaction<'_, R> {
    fn drop(&mut self) {
        if self.mutating {
            // A medium that fails here leaves `Mutating`, from which the next open recovers.
            let _ = self.roll_back();
        }
    }
}

/// The volatile log of what a transaction stored, in whole cache lines.
#[derive(Default)]
struct RangeLog {
    ranges: Vec<(u64, u64)>,
}

impl RangeLog {
    fn add(&mut self, at: u64, len: u64) {
        let (start, end) = (at / LINE * LINE, (at + len).next_multiple_of(LINE));
        match self.ranges.last_mut() {
            Some(last) if start <= last.1 && last.0 <= end => *last = (last.0.min(start), last.1.max(end)),
            _ => self.ranges.push((start, end)),
        }
        if self.ranges.len() > MAX_LOGGED_RANGES {
            let all = self.ranges.iter().fold((u64::MAX, 0), |all, one| (all.0.min(one.0), all.1.max(one.1)));
            self.ranges = vec![all];
        }
    }

    /// Sorted and merged; one range over the used heap when that is not more to copy.
    fn ranges(&mut self, used: u64) -> Vec<(u64, u64)> {
        self.ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for &(start, end) in &self.ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        let logged: u64 = merged.iter().map(|(start, end)| end - start).sum();
        let reach = merged.last().map_or(0, |last| last.1).max(used);
        if logged >= reach { vec![(0, reach)] } else { merged }
    }
}

#[cfg(test)]
mod tests;
