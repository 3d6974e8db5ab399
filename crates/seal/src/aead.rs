//! AES-GCM with a random 12-byte nonce and a 16-byte tag (NIST SP 800-38D).

use aws_lc_rs::aead::{Aad as LibraryAad, LessSafeKey, MAX_TAG_LEN, Nonce as LibraryNonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::aad::Aad;
use crate::key::{Cipher, random};
use crate::{Error, Result};

/// Length of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Length of a tag.
pub const TAG_BYTES: usize = MAX_TAG_LEN;

/// A number used once with a key.
pub type Nonce = [u8; NONCE_BYTES];
/// What proves that a ciphertext and its aad are unchanged.
pub type Tag = [u8; TAG_BYTES];

/// A key that encrypts bulk data: one write attempt of a mirror, or one data set.
///
/// With fresh keys for every attempt, the number of random nonces under one key stays far below 2^32, where NIST's
/// bound for them lies.
pub struct BulkKey {
    key: LessSafeKey,
    commitment: [u8; 32],
}

impl BulkKey {
    pub(crate) fn new(cipher: Cipher, key: &[u8], commitment: [u8; 32]) -> Result<Self> {
        let key = UnboundKey::new(cipher.algorithm(), key).map_err(|_| Error::Library)?;
        Ok(Self { key: LessSafeKey::new(key), commitment })
    }

    /// The commitment to this key, public.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Checks the commitment that was stored with sealed bytes.
    pub fn expect_commitment(self, stored: &[u8]) -> Result<Self> {
        verify_slices_are_equal(&self.commitment, stored).map_err(|_| Error::Refused)?;
        Ok(self)
    }

    /// Encrypts in place under a fresh random nonce.
    pub fn seal(&self, aad: &Aad, in_out: &mut [u8]) -> Result<(Nonce, Tag)> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let library_nonce = LibraryNonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_separate_tag(library_nonce, LibraryAad::from(aad.as_bytes()), in_out);
        let tag = sealed.map_err(|_| Error::Library)?;
        Ok((nonce, tag.as_ref().try_into().map_err(|_| Error::Library)?))
    }

    /// Encrypts into `out`, which is as long as the plaintext, under a fresh random nonce. Each byte of the plaintext is
    /// read once.
    pub fn seal_from(&self, aad: &Aad, plaintext: &[u8], out: &mut [u8]) -> Result<(Nonce, Tag)> {
        let (mut nonce, mut tag) = ([0; NONCE_BYTES], [0; TAG_BYTES]);
        random(&mut nonce)?;
        let (library_nonce, aad) = (LibraryNonce::assume_unique_for_key(nonce), LibraryAad::from(aad.as_bytes()));
        let sealed = self.key.seal_out_of_place_scatter(library_nonce, aad, plaintext, out, &[], &mut tag);
        sealed.map(|()| (nonce, tag)).map_err(|_| Error::Library)
    }

    /// Verifies and decrypts in place a ciphertext that is followed by its tag; returns the plaintext.
    pub fn open<'a>(&self, nonce: &Nonce, aad: &Aad, ciphertext_and_tag: &'a mut [u8]) -> Result<&'a mut [u8]> {
        let nonce = LibraryNonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, LibraryAad::from(aad.as_bytes()), ciphertext_and_tag);
        opened.map_err(|_| Error::Refused)
    }

    /// Decrypts into `out`, which is as long as the ciphertext and holds zeros afterwards if that was changed.
    pub fn open_into(&self, nonce: &Nonce, aad: &Aad, ciphertext: &[u8], tag: &Tag, out: &mut [u8]) -> Result<()> {
        let nonce = LibraryNonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_separate_gather(nonce, LibraryAad::from(aad.as_bytes()), ciphertext, tag, out);
        opened.map_err(|_| Error::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JobKey;

    fn key() -> BulkKey {
        JobKey::generate(Cipher::Aes128Gcm).unwrap().derive(&[7; 32]).unwrap()
    }

    fn sealed(key: &BulkKey, aad: &Aad) -> (Nonce, Vec<u8>) {
        let mut bytes = b"weights".to_vec();
        let (nonce, tag) = key.seal(aad, &mut bytes).unwrap();
        bytes.extend(tag);
        (nonce, bytes)
    }

    #[test]
    fn opens_what_it_sealed() {
        let (key, aad) = (key(), Aad::new("test"));
        let (nonce, mut bytes) = sealed(&key, &aad);
        assert_eq!(key.open(&nonce, &aad, &mut bytes).unwrap(), b"weights");
    }

    #[test]
    fn refuses_every_flipped_bit_and_another_aad() {
        let (key, aad) = (key(), Aad::new("test"));
        let (nonce, bytes) = sealed(&key, &aad);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&nonce, &aad, &mut changed), Err(Error::Refused), "bit {bit}");
        }
        assert_eq!(key.open(&nonce, &aad.field(b""), &mut bytes.clone()), Err(Error::Refused));
    }

    #[test]
    fn seals_and_opens_from_one_place_into_another() {
        let (key, aad) = (key(), Aad::new("test"));
        for length in [0, 1, 15, 16, 17, 4096, 256 * 1024 - 1, 256 * 1024] {
            let plaintext: Vec<u8> = (0..length).map(|at| (at * 31 / 7) as u8).collect();
            let mut sealed = vec![0; length];
            let (nonce, tag) = key.seal_from(&aad, &plaintext, &mut sealed).unwrap();
            let mut out = vec![0xee; length];
            assert_eq!(key.open_into(&nonce, &aad, &sealed, &tag, &mut out), Ok(()), "{length} bytes");
            assert!(out == plaintext, "{length} bytes");
            sealed.extend(tag);
            assert_eq!(key.open(&nonce, &aad, &mut sealed).unwrap(), plaintext, "{length} bytes");
        }
    }

    #[test]
    fn what_was_changed_leaves_zeros() {
        let (key, aad) = (key(), Aad::new("test"));
        let (nonce, mut sealed) = sealed(&key, &aad);
        sealed[0] ^= 1;
        let (ciphertext, tag) = sealed.split_last_chunk().unwrap();
        let mut out = vec![0xee; ciphertext.len()];
        assert_eq!(key.open_into(&nonce, &aad, ciphertext, tag, &mut out), Err(Error::Refused));
        assert!(out.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_wrong_commitment_is_refused() {
        assert!(key().expect_commitment(&[0; 32]).is_err());
        let key = key();
        let commitment = *key.commitment();
        assert!(key.expect_commitment(&commitment).is_ok());
    }
}
