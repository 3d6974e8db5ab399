//! Bulk space: free extents are reserved, written, and named by an entry of the catalog in one transaction.

use std::collections::HashSet;
use std::sync::Arc;

use plinius_medium::{EXTENT_ALIGN, Error, Extent, MappedFile, Region, Result};

use crate::catalog::Entry;
use crate::pool::{Pool, Space};

impl<R: Region> Pool<R> {
    /// Takes one free extent for each size, which is not zero, growing the pool when the free space does not do.
    pub fn reserve(self: &Arc<Self>, sizes: &[u64]) -> Result<Reserved<R>> {
        if sizes.contains(&0) {
            return Err(Error::Misuse("an extent has at least one byte".into()));
        }
        self.check_usable()?;
        if let Some(writer) = self.writer.try_lock() {
            self.check_alone(&writer)?;
        }
        let mut reserved = Reserved { pool: self.clone(), extents: vec![None; sizes.len()] };
        let mut space = self.space.lock();
        self.check_usable()?; // Again: what a commit that failed had reserved must not be given to another.
        let taken = self.take(&mut space, sizes, &mut reserved.extents);
        drop(space);
        taken.map(|()| reserved)
    }

    pub(crate) fn take(&self, space: &mut Space, sizes: &[u64], extents: &mut [Option<Extent>]) -> Result<()> {
        let mut missing = 0_u64;
        for (slot, &bytes) in extents.iter_mut().zip(sizes) {
            *slot = space.free.take(bytes);
            if slot.is_none() {
                missing = missing.saturating_add(bytes.checked_next_multiple_of(EXTENT_ALIGN).unwrap_or(u64::MAX));
            }
        }
        if missing == 0 {
            return Ok(());
        }
        // What is free at the end already is part of a single extent; several might leave holes in it.
        let lacking = extents.iter().filter(|slot| slot.is_none()).count();
        let tail = if lacking == 1 { space.free.bytes_before(space.layout.pool_bytes) } else { 0 };
        self.grow(space, missing.saturating_sub(tail)).map_err(|error| match error {
            Error::Full { what: what @ "the pool", free_bytes, advice, .. } => {
                Error::Full { what, needed_bytes: missing, free_bytes, advice }
            }
            other => other,
        })?;
        for (slot, &bytes) in extents.iter_mut().zip(sizes).filter(|(slot, _)| slot.is_none()) {
            *slot = space.free.take(bytes);
        }
        Ok(())
    }

    /// Puts `entry` into the catalog in one transaction, in the place of the one of its name. Its extents are those of
    /// `reserved` and any that it had before; what it had before and has no more is free afterwards.
    pub fn commit(self: &Arc<Self>, entry: &Entry, reserved: Reserved<R>) -> Result<()> {
        let mut tx = self.transaction()?;
        let old = tx.entry(&entry.name).map_or(Vec::new(), |old| old.extents.clone());
        check_owned(entry, &old, &reserved)?;
        // ORDER: what this thread streamed into the extents is durable at fence 1 of the transaction, before the catalog
        // names them; each other thread that wrote them has fenced for itself (`Reserved::fence`).
        tx.put(entry.clone())?;
        if let Err(error) = tx.commit() {
            // Nobody knows whether the entry is durable. If it is, these extents are its.
            reserved.keep();
            return Err(error);
        }
        let kept: HashSet<&Extent> = entry.extents.iter().collect();
        let mut space = self.space.lock();
        for extent in old.iter().filter(|extent| !kept.contains(extent)) {
            space.free.give(*extent);
        }
        reserved.keep();
        Ok(())
    }
}

/// Extents that were taken and not committed yet. They are written through this, so that no byte of a committed extent can
/// be touched, or by whoever maps the file too and was told of them; dropping it gives them back.
pub struct Reserved<R: Region = MappedFile> {
    pool: Arc<Pool<R>>,
    extents: Vec<Option<Extent>>,
}

impl<R: Region> Reserved<R> {
    /// The extents, in the order of the sizes that were asked for.
    pub fn extents(&self) -> Vec<Extent> {
        self.extents.iter().copied().flatten().collect()
    }

    /// Streams bytes into one of the extents. The writing thread calls `fence` before it reports that it is done.
    pub fn write(&self, index: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let extent = self.extents.get(index).copied().flatten();
        let fits = |extent: &Extent| at.checked_add(bytes.len() as u64).is_some_and(|end| end <= extent.bytes);
        let Some(extent) = extent.filter(fits) else {
            return Err(Error::Misuse(format!("{} bytes at {at} do not fit the reserved extent {index}", bytes.len())));
        };
        self.pool.region.stream(extent.offset + at, bytes);
        Ok(())
    }

    /// Makes this thread's writes durable before whatever it reports afterwards.
    #[track_caller]
    pub fn fence(&self) {
        self.pool.region.thread_fence();
    }

    /// Joins two reservations, to be committed together.
    #[must_use]
    pub fn join(mut self, mut other: Self) -> Self {
        self.extents.append(&mut other.extents);
        self
    }

    fn keep(mut self) {
        self.extents.clear();
    }
}

impl<R: Region> Drop for Reserved<R> {
    fn drop(&mut self) {
        if self.extents.is_empty() {
            return;
        }
        let mut space = self.pool.space.lock();
        for extent in self.extents.drain(..).flatten() {
            space.free.give(extent);
        }
    }
}

/// An entry owns all that was reserved for it, and what it owned before if it likes, each once and nothing else.
fn check_owned<R: Region>(entry: &Entry, old: &[Extent], reserved: &Reserved<R>) -> Result<()> {
    let fresh = reserved.extents();
    let mut allowed: HashSet<&Extent> = old.iter().chain(&fresh).collect();
    if let Some(foreign) = entry.extents.iter().find(|extent| !allowed.remove(extent)) {
        return Err(Error::Misuse(format!("{foreign:?} does not belong to the entry {:?}, or not twice", entry.name)));
    }
    match fresh.iter().find(|extent| allowed.contains(extent)) {
        None => Ok(()),
        Some(lost) => Err(Error::Misuse(format!("{lost:?} was reserved for {:?}, which does not own it", entry.name))),
    }
}
