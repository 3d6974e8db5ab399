//! Whether this process may use a pool at all, and what it remembers when something failed.

use std::sync::atomic::Ordering;

use plinius_medium::{Error, Region, Result, load_u64};

use crate::lock::Lock;
use crate::pool::{Pool, Writer};
use crate::superblock::SESSION_OFFSET;
use crate::twins::{Half, Heap, Twin};

impl<R: Region> Pool<R> {
    /// Refuses a forked child: the pool that it has inherited is its parent's.
    #[inline]
    pub(crate) fn check_owner(&self) -> Result<()> {
        self.lock.as_ref().map_or(Ok(()), Lock::assert_owner)
    }

    /// Whether this process may write the pool at all.
    pub(crate) fn check_usable(&self) -> Result<()> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.assert_held(self.region.len()))?;
        self.check_intact()
    }

    /// Whether what is known of the pool is true of it.
    pub(crate) fn check_intact(&self) -> Result<()> {
        self.region.check_whole()?;
        if self.failed.load(Ordering::Acquire) {
            let advice = "the medium failed, or somebody else wrote the pool; close it and open it again".to_owned();
            return Err(Error::Misuse(advice));
        }
        Ok(())
    }

    /// Whether nobody else has opened the pool meanwhile: who lost the lock without noticing would destroy what the other
    /// writes.
    #[inline]
    pub(crate) fn check_session(&self) -> Result<()> {
        match &self.lock {
            Some(lock) if load_u64(&self.region, SESSION_OFFSET) != lock.session() => self.not_alone(),
            _ => Ok(()),
        }
    }

    /// The same, and whether the heap counts the commits that this process knows of.
    pub(crate) fn check_alone(&self, writer: &Writer) -> Result<()> {
        self.check_session()?;
        let commits = Half { region: &self.region, map: &writer.heap, twin: Twin::Main }.commits();
        if commits == writer.commits { Ok(()) } else { self.not_alone() }
    }

    #[cold]
    fn not_alone(&self) -> Result<()> {
        self.region.check_whole()?;
        let advice = "somebody else wrote the pool while it was open here; close it and open it again".to_owned();
        Err(Error::Misuse(advice))
    }

    /// Remembers that the medium failed, and tells damage from an access that failed and so read junk.
    pub(crate) fn note<T>(&self, result: Result<T>) -> Result<T> {
        match &result {
            Err(Error::Io { .. }) => self.failed.store(true, Ordering::Release),
            Err(Error::Corrupt(_)) => self.region.check_whole()?,
            _ => {}
        }
        result
    }

    /// Remembers that a commit or its undoing failed: nobody knows what the pool holds before it is opened again.
    pub(crate) fn sealed_off<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        self.note(result)
    }
}
