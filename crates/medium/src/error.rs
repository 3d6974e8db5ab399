//! What can go wrong with a pool. Each variant becomes one class of `plinius.errors`.

use std::io;

use crate::medium::{Durability, Medium};
use crate::persist::Flush;

/// The result of an operation on a pool.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a pool; the message says what happened and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// The pool, its heap, or its medium has no room.
    #[error("{what} is full: {needed_bytes} bytes needed, {free_bytes} free; {advice}")]
    Full {
        /// What is full.
        what: &'static str,
        /// Bytes that the operation needed.
        needed_bytes: u64,
        /// Bytes that there were.
        free_bytes: u64,
        /// What to do about it.
        advice: &'static str,
    },
    /// Another process, or this one, has the pool open.
    #[error("the pool is open in {holder}; close it there, or wait for that to end")]
    Busy {
        /// Who holds it, in words.
        holder: String,
    },
    /// The bytes of the pool are not what we wrote.
    #[error("the pool is damaged: {0}; restore it from a copy")]
    Corrupt(String),
    /// The file is not a pool at all.
    #[error("this is not a pool: {0}; name a pool, or a path where there is no file yet")]
    NotAPool(&'static str),
    /// The pool has a format version that this release does not read.
    #[error("the pool has format version {found}, this program reads version {known}; use a matching release")]
    Version {
        /// The version in the pool.
        found: u32,
        /// The version that this release writes.
        known: u32,
    },
    /// A commit would survive less than the opener requires.
    #[error(
        "a commit on this medium, {medium} with flush={}, survives a {found}, not a {required}; \
         move the pool to another medium, or require less",
        flush.name()
    )]
    Durability {
        /// What the opener requires.
        required: Durability,
        /// What there is.
        found: Durability,
        /// The medium that it follows from.
        medium: Medium,
        /// The write-back that it follows from.
        flush: Flush,
    },
    /// The pool cannot be used like this.
    #[error("{0}")]
    Misuse(String),
}

impl Error {
    /// An operation that the system refused.
    pub fn io(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { action, source: errno.into() }
    }

    /// Somebody cut the file while it was open.
    pub fn cut(bytes: u64) -> Self {
        Self::Corrupt(format!("it was truncated to {bytes} bytes while it was open"))
    }

    /// Bytes that nobody of ours has written.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }
}
