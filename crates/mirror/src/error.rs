//! Errors of the two crates below, and those of their meeting.

/// The result of sealing into a pool or opening from it.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between pool and keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool failed.
    #[error(transparent)]
    Pool(#[from] plinius_medium::Error),
    /// A key or the sealing failed.
    #[error(transparent)]
    Seal(#[from] plinius_seal::Error),
    /// Sealed bytes did not open; the name says which.
    #[error("{0} does not open: its bytes were changed or cut, or this is not its key")]
    Refused(String),
    /// A buffer was written while it was being sealed.
    #[error(
        "{0} was written while it was being saved, and that generation was given up; save it with wait=True, or give the \
         mirror the optimizer that writes it"
    )]
    Written(String),
    /// The caller gave arguments that do not fit each other.
    #[error("{0}")]
    Misuse(String),
}
