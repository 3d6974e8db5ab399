//! Romulus (Correia, Felber, Ramalhete, SPAA 2018): durable transactions over two copies of the heap.
//!
//! `main` is changed in place; `back` is the last committed state. The state word says which of the two is whole:
//! `Mutating`: back is, `Copying`: main is, `Idle`: both are. A transaction costs four fences, whatever its size.

use plinius_medium::{Error, Region, Result, load_u64};

use crate::log::LineLog;
use crate::superblock::STATE_OFFSET;
use crate::twins::{COMMITS_OFFSET, HEAP_HEADER_BYTES, Half, Heap, HeapMap, Twin, USED_OFFSET, used_words};

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
    #[inline]
    pub fn word(self) -> u64 {
        match self {
            Self::Idle => Self::WORDS[0].1,
            Self::Mutating => Self::WORDS[1].1,
            Self::Copying => Self::WORDS[2].1,
        }
    }

    #[inline]
    fn store<R: Region>(self, region: &R) {
        region.store(STATE_OFFSET, &self.word().to_le_bytes());
    }

    /// Stores the state and starts its write-back; the caller fences.
    #[track_caller]
    #[inline]
    fn announce<R: Region>(self, region: &R) {
        self.store(region);
        region.pwb(STATE_OFFSET, 8);
    }
}

/// Prepares both heaps and the state word of a new pool; the caller fences.
pub fn format<R: Region>(region: &R, map: &HeapMap) {
    let mut header = [0; HEAP_HEADER_BYTES as usize];
    header[..16].copy_from_slice(&used_words(HEAP_HEADER_BYTES));
    for twin in [Twin::Main, Twin::Back] {
        let (offset, _) = map.locate(twin, 0);
        region.store(offset, &header);
        region.pwb(offset, HEAP_HEADER_BYTES);
    }
    State::Idle.announce(region);
}

/// Makes main and back equal again after a crash. It may itself be cut by a crash and repeated.
pub fn recover<R: Region>(region: &R, map: &HeapMap) -> Result<()> {
    let (from, to) = match State::parse(load_u64(region, STATE_OFFSET))? {
        State::Idle => return check_equal_headers(region, map),
        State::Mutating => (Twin::Back, Twin::Main),
        State::Copying => (Twin::Main, Twin::Back),
    };
    let mut left = Half { region, map, twin: from }.used()?.next_multiple_of(64);
    let mut at = 0;
    while left > 0 {
        let (source, room) = map.locate(from, at);
        let part = left.min(room);
        region.copy(source, map.locate(to, at).0, part);
        (at, left) = (at + part, left - part);
    }
    // ORDER: the copy is durable before the state says that both are equal. That word needs no fence: while it is lost,
    // recovery is repeated.
    region.pfence()?;
    State::Idle.store(region);
    Ok(())
}

/// A quick look, where `verify` compares everything.
fn check_equal_headers<R: Region>(region: &R, map: &HeapMap) -> Result<()> {
    let [main, back] = [Twin::Main, Twin::Back].map(|twin| {
        let mut header = [0; HEAP_HEADER_BYTES as usize];
        Half { region, map, twin }.load(0, &mut header);
        header
    });
    if main == back { Ok(()) } else { Err(Error::corrupt("its two heaps differ while no transaction runs")) }
}

/// What a transaction has done so far. Volatile, and kept from one to the next, since it is as large as the heap asks.
#[derive(Default)]
pub struct Log {
    /// The lines that were stored to.
    pub lines: LineLog,
    mutating: bool,
}

impl Log {
    /// Whether anything was stored, and neither committed nor rolled back.
    pub fn has_begun(&self) -> bool {
        self.mutating
    }
}

/// A running transaction on the heap: the caller holds the writers' lock and sees to it that it is ended.
pub struct Mutation<'a, R: Region> {
    /// Where the pool lies.
    pub region: &'a R,
    /// Where its heap lies in there.
    pub map: &'a HeapMap,
    /// Of this transaction.
    pub log: &'a mut Log,
}

impl<R: Region> Mutation<'_, R> {
    /// Stores into main, interposed: the range is logged, to be flushed and copied at the commit. The first store
    /// begins the transaction; until then it costs nothing.
    #[inline]
    pub fn store(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(()); // It may lie at the very end.
        }
        if !self.log.mutating {
            self.begin()?;
        }
        self.log.lines.add(at, bytes.len() as u64);
        let (offset, room) = self.map.locate(Twin::Main, at);
        if bytes.len() as u64 <= room {
            self.region.store(offset, bytes);
            return Ok(());
        }
        self.store_across(at, bytes, room as usize)
    }

    /// Stores what lies in several segments.
    #[cold]
    fn store_across(&mut self, at: u64, bytes: &[u8], room: usize) -> Result<()> {
        let (here, rest) = bytes.split_at(room);
        self.store(at, here)?;
        self.store(at + room as u64, rest)
    }

    #[cold]
    fn begin(&mut self) -> Result<()> {
        State::Mutating.announce(self.region);
        // ORDER: fence 1 of 4. Main changes only after the medium knows that back is the one to trust.
        self.region.pfence()?;
        self.log.mutating = true;
        Ok(())
    }

    /// Stores one word.
    #[inline]
    pub fn store_word(&mut self, at: u64, word: u64) -> Result<()> {
        self.store(at, &word.to_le_bytes())
    }

    /// Sets how much of the heap is in use.
    pub fn set_used(&mut self, used: u64) -> Result<()> {
        self.store(USED_OFFSET, &used_words(used))
    }

    /// The first half of a commit: the transaction is durable when this returns, and main may be read.
    ///
    /// # Errors
    /// After an I/O error of the medium nobody knows what is durable: the pool must be closed and opened again.
    pub fn make_durable(&mut self) -> Result<()> {
        self.store_word(COMMITS_OFFSET, self.commits().wrapping_add(1))?;
        for (at, len) in self.log.lines.ranges() {
            self.region.pwb(self.map.locate(Twin::Main, at).0, len);
        }
        // ORDER: fence 2 of 4. Main is whole on the medium before the state says so.
        self.region.pfence()?;
        // From here on main is the one to trust: a failing medium must not make us roll it back.
        self.log.mutating = false;
        State::Copying.announce(self.region);
        // ORDER: fence 3 of 4. The transaction is durable here.
        self.region.psync()
    }

    /// The second half: main and back are equal again.
    pub fn copy_to_back(&mut self) -> Result<()> {
        self.copy_logged(Twin::Main, Twin::Back);
        // ORDER: fence 4 of 4. Back is equal before the state says so.
        self.region.pfence()?;
        self.end();
        Ok(())
    }

    /// Puts main back to what it was.
    pub fn roll_back(&mut self) -> Result<()> {
        self.copy_logged(Twin::Back, Twin::Main);
        // ORDER: main is equal to back again before the state says so.
        self.region.pfence()?;
        self.end();
        Ok(())
    }

    fn copy_logged(&self, from: Twin, to: Twin) {
        for (at, len) in self.log.lines.ranges() {
            self.region.copy(self.map.locate(from, at).0, self.map.locate(to, at).0, len);
        }
    }

    /// `Idle` is neither flushed nor fenced: if it is lost, recovery copies once more what is equal already, and the next
    /// transaction's word lies in the same line.
    fn end(&mut self) {
        State::Idle.store(self.region);
        self.log.mutating = false;
        self.log.lines.clear();
    }
}

impl<R: Region> Heap for Mutation<'_, R> {
    #[inline]
    fn heap_bytes(&self) -> u64 {
        self.map.bytes()
    }

    #[inline]
    fn load(&self, at: u64, out: &mut [u8]) {
        Half { region: self.region, map: self.map, twin: Twin::Main }.load(at, out);
    }
}

#[cfg(test)]
mod tests;
