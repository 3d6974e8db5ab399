//! The volatile log of what a transaction stored.
//!
//! A bit for each cache line of the heap, so that stores to one line merge however often it is stored to, and a list of the
//! pages that have any, so that walking and clearing cost what was touched. It is bounded by the heap (a 512th and a
//! 1024th of it); a transaction that touches everything walks whole pages one after the other, which is what copying the
//! whole heap costs: no second mode is needed for that.
use plinius_medium::LINE;

/// The lines of one word of bits: 4 KiB, which no two segments share.
const PAGE_LINES: u64 = 64;
/// Bytes of the heap that one word of bits stands for.
pub const LOG_PAGE_BYTES: u64 = PAGE_LINES * LINE;

/// Which cache lines of the heap were stored to.
#[derive(Default)]
pub struct LineLog {
    bits: Vec<u64>,
    touched: Vec<u32>,
}

impl LineLog {
    /// Makes the log reach over a heap that was opened or has grown.
    pub fn cover(&mut self, heap_bytes: u64) {
        let words = heap_bytes.div_ceil(LOG_PAGE_BYTES) as usize;
        if self.bits.is_empty() {
            self.bits = vec![0; words]; // Costs no memory before it is used.
        } else {
            self.bits.resize(words, 0);
        }
    }

    /// Logs a store.
    #[inline]
    pub fn add(&mut self, at: u64, len: u64) {
        if len == 0 {
            return;
        }
        let (first, last) = (at / LINE, (at + len - 1) / LINE);
        for page in first / PAGE_LINES..=last / PAGE_LINES {
            let from = first.max(page * PAGE_LINES) % PAGE_LINES;
            let to = last.min(page * PAGE_LINES + PAGE_LINES - 1) % PAGE_LINES;
            let bits = &mut self.bits[page as usize];
            if *bits == 0 {
                self.touched.push(page as u32);
            }
            *bits |= (u64::MAX >> (PAGE_LINES - 1 - (to - from))) << from;
        }
    }

    /// The logged ranges as (address, length), each a run of whole lines inside one page.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.touched.iter().flat_map(|&page| {
            let (mut bits, start) = (self.bits[page as usize], u64::from(page) * LOG_PAGE_BYTES);
            std::iter::from_fn(move || {
                if bits == 0 {
                    return None;
                }
                let first = bits.trailing_zeros();
                let lines = (bits >> first).trailing_ones();
                bits &= !((u64::MAX >> (64 - lines)) << first);
                Some((start + u64::from(first) * LINE, u64::from(lines) * LINE))
            })
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for page in self.touched.drain(..) {
            self.bits[page as usize] = 0;
        }
    }
}

#[cfg(test)]
mod tests;
