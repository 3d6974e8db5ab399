//! An image: the bytes of a pool file that a crash leaves, and the hash that tells one from another.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A 128-bit hash of an image: the XOR of a hash of each word that is not zero, so that changing a word changes it in
/// constant time, and so that words of zeros cost nothing.
pub type Hash = u128;

/// A word of the file and where it lies.
pub type Word = (u64, u64);

/// What a word adds to the hash of its image.
#[inline]
pub fn word_hash((at, value): Word) -> Hash {
    if value == 0 {
        return 0;
    }
    let high = mix(value ^ mix(at.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    let low = mix(value.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ mix(!at));
    Hash::from(high) << 64 | Hash::from(low)
}

/// The hash of a whole file; its length counts too.
pub fn hash(bytes: &[u8]) -> Hash {
    let words = (0..).step_by(8).zip(bytes.chunks(8));
    words.fold(length_hash(bytes.len() as u64), |hash, (at, word)| hash ^ word_hash((at, load(word))))
}

/// What the length of a file adds to its hash.
pub fn length_hash(bytes: u64) -> Hash {
    word_hash((u64::MAX, bytes))
}

/// Decodes up to eight bytes.
#[inline]
pub fn load(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// A permutation of 64 bits that scatters them well (SplitMix64's).
#[inline]
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A durable file and the words of it that a crash leaves different.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the whole file.
    pub hash: Hash,
    /// What is durable in any case.
    pub base: Arc<Vec<u8>>,
    /// Length of the file.
    pub len: u64,
    /// What has reached the medium beside it.
    pub words: Vec<Word>,
}

impl Image {
    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len as usize);
        bytes.extend_from_slice(&self.base);
        bytes.resize(self.len as usize, 0);
        for (at, word) in &self.words {
            bytes[*at as usize..][..8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// For tables whose keys are hashes already.
#[derive(Default)]
pub struct Passed(u64);

impl Hasher for Passed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = load(&bytes[..8]);
    }
}

/// Makes `Passed`.
pub type Pass = BuildHasherDefault<Passed>;
