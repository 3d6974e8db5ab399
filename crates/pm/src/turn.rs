//! Whose turn it is to write: one thread at a time, and none that would wait for itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{ArcMutexGuard, Mutex, RawMutex, RwLock};

use plinius_medium::{Error, Region, Result};

use crate::pool::{Pool, Writer};
use crate::transaction::Transaction;

impl<R: Region> Pool<R> {
    /// Begins a transaction, as soon as no other one runs.
    ///
    /// # Errors
    /// This thread runs one already: transactions are not nested (`Error::Misuse`). This process may not write the pool.
    pub fn transaction(self: &Arc<Self>) -> Result<Transaction<R>> {
        let thread = self.check_thread()?;
        self.begin(thread, Mutex::lock_arc(&self.writer))
    }

    /// The same, unless another one runs for as long as that: `None` then.
    ///
    /// # Errors
    /// As `transaction`.
    pub fn transaction_within(self: &Arc<Self>, patience: Duration) -> Result<Option<Transaction<R>>> {
        let thread = self.check_thread()?;
        let writer = Mutex::try_lock_arc_for(&self.writer, patience);
        writer.map(|writer| self.begin(thread, writer)).transpose()
    }

    /// Whether this thread may begin a transaction: it runs none on this pool, and reads nothing of it.
    ///
    /// # Errors
    /// It does, or this is a forked child (`Error::Misuse`).
    pub fn check_free(&self) -> Result<()> {
        self.check_thread().map(drop)
    }

    fn check_thread(&self) -> Result<usize> {
        self.check_owner()?;
        let thread = this_thread();
        self.refuse_nested(thread)?;
        Ok(thread)
    }

    fn begin(self: &Arc<Self>, thread: usize, writer: ArcMutexGuard<RawMutex, Writer>) -> Result<Transaction<R>> {
        self.check_usable()?;
        self.check_alone(&writer)?;
        self.writing_thread.store(thread, Ordering::Relaxed);
        Ok(Transaction::new(self.clone(), writer, RwLock::write_arc(&self.main)))
    }

    /// Waiting for oneself would take for ever.
    pub(crate) fn refuse_nested(&self, thread: usize) -> Result<()> {
        if self.writing_thread.load(Ordering::Relaxed) == thread {
            let advice =
                "this thread runs a transaction on this pool already, and transactions are not nested: end it first";
            return Err(Error::Misuse(advice.into()));
        }
        if self.readers.hold(thread) {
            let advice = "this thread is reading the pool (is this a signal handler, or a finalizer?): \
                          a transaction would wait for that for ever";
            return Err(Error::Misuse(advice.into()));
        }
        Ok(())
    }
}

/// A number that tells the living threads apart; not 0.
pub fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
