//! Free space as a set of runs, found by place (to merge neighbours) and by size (to fit best). Volatile: it follows from
//! what is in use and is found anew at each open, so a crash can leak nothing.

use std::collections::{BTreeMap, BTreeSet};

/// Runs of free bytes; no two touch.
#[derive(Debug, Default)]
pub struct Holes {
    by_place: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    bytes: u64,
}

impl Holes {
    /// Takes `bytes` from the start of the smallest run that has them, and returns where they lie and what is left
    /// of that run.
    pub fn take(&mut self, bytes: u64) -> Option<(u64, u64)> {
        let &(length, at) = self.by_size.range((bytes, 0)..).next()?;
        self.remove(at, length);
        let rest = length - bytes;
        if rest > 0 {
            self.insert(at + bytes, rest);
        }
        Some((at, rest))
    }

    /// Adds a run, merges it with those that touch it, and returns the place and length of the whole.
    pub fn give(&mut self, mut at: u64, mut bytes: u64) -> (u64, u64) {
        if let Some((&before, &length)) = self.by_place.range(..at).next_back()
            && before + length == at
        {
            self.remove(before, length);
            (at, bytes) = (before, bytes + length);
        }
        if let Some(&length) = self.by_place.get(&(at + bytes)) {
            self.remove(at + bytes, length);
            bytes += length;
        }
        self.insert(at, bytes);
        (at, bytes)
    }

    /// Removes a run that `give` returned or `take` left.
    pub fn remove(&mut self, at: u64, bytes: u64) {
        self.by_place.remove(&at);
        self.by_size.remove(&(bytes, at));
        self.bytes -= bytes;
    }

    /// Length of the run that ends at a place; 0: none does.
    pub fn bytes_before(&self, end: u64) -> u64 {
        let last = self.by_place.range(..end).next_back();
        last.filter(|(at, length)| *at + *length == end).map_or(0, |(_, length)| *length)
    }

    /// All free bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Length of the longest run.
    pub fn longest(&self) -> u64 {
        self.by_size.last().map_or(0, |(length, _)| *length)
    }

    fn insert(&mut self, at: u64, bytes: u64) {
        self.by_place.insert(at, bytes);
        self.by_size.insert((bytes, at));
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests;
