//! Telling whether bytes have changed, by a keyed fingerprint that stays in private memory.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::aead::{NONCE_BYTES, TAG_BYTES};
use crate::key::random;
use crate::{Error, Result};

/// Length of a fingerprint.
pub const FINGERPRINT_BYTES: usize = TAG_BYTES;

/// What tells two states of the same memory apart.
pub type Fingerprint = [u8; FINGERPRINT_BYTES];

/// Makes fingerprints under a random key of its own: GMAC (NIST SP 800-38D), the tag of no plaintext.
///
/// Its nonce is always the same. That would help a forger who sees tags; these are never stored, sent or shown, and so two
/// different buffers of n bytes have one fingerprint with a chance of n / 2^132, whoever chose them.
pub struct Fingerprints(LessSafeKey);

impl Fingerprints {
    /// Draws a key.
    pub fn new() -> Result<Self> {
        let mut key = Zeroizing::new([0; 16]);
        random(&mut *key)?;
        let key = UnboundKey::new(&AES_128_GCM, &*key).map_err(|_| Error::Library)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The fingerprint of some bytes.
    pub fn of(&self, bytes: &[u8]) -> Result<Fingerprint> {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_BYTES]);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(bytes), &mut []).map_err(|_| Error::Library)?;
        tag.as_ref().try_into().map_err(|_| Error::Library)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_length_changes_a_fingerprint() {
        let prints = Fingerprints::new().unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        let known = prints.of(&bytes).unwrap();
        assert_eq!(prints.of(&bytes).unwrap(), known);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(prints.of(&changed).unwrap(), known, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_ne!(prints.of(&bytes[..length]).unwrap(), known, "{length} bytes");
        }
    }

    #[test]
    fn each_key_is_another() {
        let prints =
            [Fingerprints::new().unwrap(), Fingerprints::new().unwrap()].map(|one| one.of(b"weights").unwrap());
        assert_ne!(prints[0], prints[1]);
    }
}
