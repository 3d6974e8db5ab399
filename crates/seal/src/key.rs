//! Job keys and what is derived from them. A job key never encrypts anything itself.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Algorithm};
use aws_lc_rs::hkdf::{self, HKDF_SHA256, KeyType};
use aws_lc_rs::rand;
use plinius_secret::{Custody, Secret};
use zeroize::{Zeroize, Zeroizing};

use crate::aead::BulkKey;
use crate::{Error, Result};

/// Length of the secret of a job key, whatever the cipher.
const SECRET_BYTES: usize = 32;
/// Length of a salt.
pub const SALT_BYTES: usize = 32;
/// Length of the public id of a key.
pub const KEY_ID_BYTES: usize = 8;

const FILE_HEADER: &str = "plinius-key-1";

/// What makes one derived key differ from all others: fresh and random for every write attempt.
pub type Salt = [u8; SALT_BYTES];

/// AES-GCM with one of its three key sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// The paper's, and the default.
    Aes128Gcm,
    /// 192-bit keys.
    Aes192Gcm,
    /// 256-bit keys.
    Aes256Gcm,
}

impl Cipher {
    const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes192Gcm, Self::Aes256Gcm];

    /// The name in key files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes192Gcm => "aes-192-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }

    /// The cipher of a name.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|cipher| cipher.name() == name);
        found.ok_or(Error::NotAKey("its cipher is not aes-128-gcm, aes-192-gcm or aes-256-gcm"))
    }

    pub(crate) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes192Gcm => &AES_192_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// The key of a job: the root from which every bulk key is derived. Wiped when dropped, never printed, and kept in the best
/// memory that the process can get (`custody`).
///
/// What is derived from it is not: a `BulkKey` is a key schedule of aws-lc's, in ordinary memory that aws-lc chooses and wipes.
pub struct JobKey {
    cipher: Cipher,
    secret: Secret<SECRET_BYTES>,
}

impl std::fmt::Debug for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobKey(secret)")
    }
}

impl JobKey {
    /// Makes a new random key.
    pub fn generate(cipher: Cipher) -> Result<Self> {
        let mut secret = Secret::new();
        random(secret.bytes_mut())?;
        Ok(Self { cipher, secret })
    }

    /// Reads the text of a key file.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(text).map_err(|_| Error::NotAKey("it is not text"))?;
        let mut fields = text.split_ascii_whitespace();
        if fields.next() != Some(FILE_HEADER) {
            return Err(Error::NotAKey("it does not begin with plinius-key-1"));
        }
        let cut = Error::NotAKey("it is cut");
        let cipher = Cipher::from_name(fields.next().ok_or(cut)?)?;
        let id = fields.next().ok_or(cut)?;
        let mut secret = Secret::new();
        decode_hex(fields.next().ok_or(cut)?, secret.bytes_mut())?;
        let key = Self { cipher, secret };
        if fields.next().is_some() || id != hex(&key.id()?) {
            return Err(Error::NotAKey("it was changed: its id is not that of its secret"));
        }
        Ok(key)
    }

    /// The text of a key file: header, cipher, public id, secret.
    pub fn format(&self) -> Result<Zeroizing<String>> {
        let secret = Zeroizing::new(hex(&*self.secret));
        let id = hex(&self.id()?);
        // One allocation that holds all of it: a growing string would leave copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(256));
        for line in [FILE_HEADER, self.cipher.name(), &id, secret.as_str()] {
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }

    /// How well the secret is kept.
    pub fn custody(&self) -> Custody {
        self.secret.custody()
    }

    /// The cipher of every key derived from this one.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// A public name, derived one way, by which a wrong key file is told before anything is opened.
    pub fn id(&self) -> Result<[u8; KEY_ID_BYTES]> {
        let mut id = [0; KEY_ID_BYTES];
        self.expand(&[], b"plinius 1 key id", &mut id)?;
        Ok(id)
    }

    /// Derives the key of one write attempt, and a commitment to it: AES-GCM alone does not tell two keys apart that
    /// open the same bytes.
    pub fn derive(&self, salt: &Salt) -> Result<BulkKey> {
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        let key = &mut key[..self.cipher.algorithm().key_len()];
        self.expand(salt, b"plinius 1 bulk key", key)?;
        let mut commitment = [0; 32];
        self.expand(salt, b"plinius 1 commitment", &mut commitment)?;
        BulkKey::new(self.cipher, key, commitment)
    }

    /// What proves the possession of this key to an anchor outside of the pool: secret, and of one job only.
    pub fn anchor_auth(&self, job_id: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
        let mut auth = Zeroizing::new([0; 32]);
        self.expand(job_id, b"plinius 1 anchor", &mut *auth)?;
        Ok(auth)
    }

    /// HKDF-SHA256 (RFC 5869). The cipher is part of the info, so one secret used with two ciphers gives two keys.
    fn expand(&self, salt: &[u8], purpose: &[u8], out: &mut [u8]) -> Result<()> {
        struct Length(usize);
        impl KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let prk = hkdf::Salt::new(HKDF_SHA256, salt).extract(&*self.secret);
        let info = [purpose, b" ", self.cipher.name().as_bytes()];
        let okm = prk.expand(&info, Length(out.len())).map_err(|_| Error::Library)?;
        okm.fill(out).map_err(|_| Error::Library)
    }
}

/// Fills a buffer with random bytes.
pub fn random(out: &mut [u8]) -> Result<()> {
    rand::fill(out).map_err(|_| Error::Library)
}

fn hex(bytes: &[u8]) -> String {
    // One allocation of the final size: a growing string would leave copies of a secret behind.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text
}

fn decode_hex(text: &str, out: &mut [u8]) -> Result<()> {
    let refuse = Error::NotAKey("its secret is not 64 hexadecimal digits");
    if text.len() != 2 * out.len()
        || !text.bytes().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase())
    {
        return Err(refuse);
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let mut pair = std::str::from_utf8(pair).map_err(|_| refuse)?.to_owned();
        *byte = u8::from_str_radix(&pair, 16).map_err(|_| refuse)?;
        pair.zeroize();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_round_trips() {
        for cipher in Cipher::ALL {
            let key = JobKey::generate(cipher).unwrap();
            let again = JobKey::parse(key.format().unwrap().as_bytes()).unwrap();
            assert_eq!((again.id().unwrap(), again.cipher()), (key.id().unwrap(), cipher));
        }
    }

    #[test]
    fn every_changed_character_of_a_key_file_is_refused() {
        let text = JobKey::generate(Cipher::Aes128Gcm).unwrap().format().unwrap();
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] ^= 1;
            assert!(JobKey::parse(&changed).is_err(), "character {at}");
            assert!(at == text.len() - 1 || JobKey::parse(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }

    /// RFC 5869 test case 1 checks the library; this checks how we call it: purposes and ciphers are kept apart.
    #[test]
    fn derived_keys_differ_by_salt_and_by_job() {
        let key = JobKey::generate(Cipher::Aes256Gcm).unwrap();
        let other = JobKey::generate(Cipher::Aes256Gcm).unwrap();
        let commitments = [
            *key.derive(&[1; 32]).unwrap().commitment(),
            *key.derive(&[2; 32]).unwrap().commitment(),
            *other.derive(&[1; 32]).unwrap().commitment(),
        ];
        assert!(commitments[0] != commitments[1] && commitments[0] != commitments[2]);
        assert_eq!(commitments[0], *key.derive(&[1; 32]).unwrap().commitment());
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = JobKey::generate(Cipher::Aes128Gcm).unwrap();
        assert_eq!(format!("{key:?}"), "JobKey(secret)");
    }
}
