//! The workload of `plinius bench sps`: swaps of random words of a persistent array, several in one transaction.
//!
//! It uses the pool as any program would. `bench/fences.rs` runs the same code over a region that counts.

use std::sync::Arc;
use std::time::Instant;

use plinius_pm::{Block, Error, Pool, Region, Result};

/// Swaps between two looks at the clock: the clock must not be what is measured.
const SWAPS_BETWEEN_LOOKS: u64 = 512;
const WORD_BYTES: u64 = 8;

/// An array of words 0, 1, 2, ... in a pool, to be swapped.
pub struct Array<R: Region> {
    pool: Arc<Pool<R>>,
    block: Block,
    words: u64,
    random: Random,
}

impl<R: Region> Array<R> {
    /// Allocates and fills the array in one transaction.
    ///
    /// # Errors
    /// There is no room (`Error::Full`); or the array would be empty (`Error::Misuse`).
    pub fn create(pool: &Arc<Pool<R>>, array_bytes: u64, seed: u64) -> Result<Self> {
        let words = array_bytes / WORD_BYTES;
        if words == 0 {
            return Err(Error::Misuse("an array to swap in has at least one word".into()));
        }
        let bytes: Vec<u8> = (0..words).flat_map(u64::to_le_bytes).collect();
        let mut tx = pool.transaction()?;
        let at = tx.create(&bytes)?;
        let block = tx.block(at)?;
        tx.commit()?;
        Ok(Self { pool: pool.clone(), block, words, random: Random(seed.wrapping_mul(2) + 1) })
    }

    /// Swaps for some seconds; returns the number of swaps and the seconds that they took.
    ///
    /// # Errors
    /// The medium failed.
    pub fn swap_for(&mut self, seconds: f64, swaps_per_transaction: u64) -> Result<(u64, f64)> {
        let burst = SWAPS_BETWEEN_LOOKS / swaps_per_transaction.max(1) + 1;
        let mut swaps = 0;
        let begun = Instant::now();
        loop {
            for _ in 0..burst {
                self.transaction(swaps_per_transaction)?;
            }
            swaps += burst * swaps_per_transaction;
            let elapsed_s = begun.elapsed().as_secs_f64();
            if elapsed_s >= seconds {
                return Ok((swaps, elapsed_s));
            }
        }
    }

    fn transaction(&mut self, swaps: u64) -> Result<()> {
        let mut tx = self.pool.transaction()?;
        for _ in 0..swaps {
            let one = self.random.below(self.words) * WORD_BYTES;
            let other = self.random.below(self.words) * WORD_BYTES;
            let (first, second) = (tx.load_word(self.block, one)?, tx.load_word(self.block, other)?);
            tx.store_word(self.block, one, second)?;
            tx.store_word(self.block, other, first)?;
        }
        tx.commit()
    }

    /// Makes sure that no swap lost a word, so that each number is still there once, and frees the array.
    ///
    /// # Errors
    /// A word was lost (`Error::Corrupt`).
    pub fn finish(self) -> Result<()> {
        let mut tx = self.pool.transaction()?;
        let mut seen = vec![false; self.words as usize];
        for at in 0..self.words {
            let word = tx.load_word(self.block, at * WORD_BYTES)?;
            match seen.get_mut(word as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(Error::Corrupt(format!("swaps lost or doubled a word: {word} at {at}"))),
            }
        }
        tx.free(self.block.at())?;
        tx.commit()
    }
}

/// xorshift64*; the peers use the same generator.
struct Random(u64);

impl Random {
    /// Upper bits spread over 0..bound, without a division.
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}
