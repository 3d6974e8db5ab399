//! Sealing: key types, the key schedule, and the AES-GCM framing. No I/O, and no primitive of our own: AES-GCM, HKDF and
//! random bytes are aws-lc's, and the memory of job keys is the crate `plinius-secret`'s.

#![forbid(unsafe_code)]

mod aad;
mod aead;
mod fingerprint;
mod key;
#[cfg(test)]
mod vectors;

pub use aad::Aad;
pub use aead::{BulkKey, NONCE_BYTES, Nonce, TAG_BYTES, Tag};
pub use fingerprint::{FINGERPRINT_BYTES, Fingerprint, Fingerprints};
pub use key::{Cipher, JobKey, KEY_ID_BYTES, SALT_BYTES, Salt, random};
pub use plinius_secret::Custody;

/// The result of sealing or opening.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. Opening has one failure only, so that it tells an attacker nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Wrong key, changed bytes or truncation.
    #[error("sealed bytes do not open: they were changed or cut, or this is not their key")]
    Refused,
    /// The text is not a key.
    #[error("this is not a key: {0}")]
    NotAKey(&'static str),
    /// The library failed; nothing was sealed.
    #[error("the cryptographic library failed")]
    Library,
}
