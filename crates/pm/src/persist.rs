//! The instructions that make stores durable, chosen by what the CPU has and what the medium needs.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, __m128i, _mm_clflush, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

use crate::region::LINE;

/// How a cache line is written back (`pwb`), and with it what a fence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// `clwb` + `sfence`: the line stays in the cache.
    Clwb,
    /// `clflushopt` + `sfence`.
    ClflushOpt,
    /// `clflush`, which orders itself, + `sfence`.
    Clflush,
    /// `sfence` alone: the persistence domain includes the caches.
    None,
    /// `fdatasync`: an ordinary file.
    Fdatasync,
}

impl Flush {
    /// The best write-back instruction of this CPU.
    pub fn best_instruction() -> Self {
        // Every x86-64 CPU has leaf 7 or answers zeros for it.
        let features = __cpuid_count(7, 0).ebx;
        if features & (1 << 24) != 0 {
            Self::Clwb
        } else if features & (1 << 23) != 0 {
            Self::ClflushOpt
        } else {
            Self::Clflush
        }
    }

    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clwb => "clwb",
            Self::ClflushOpt => "clflushopt",
            Self::Clflush => "clflush",
            Self::None => "none",
            Self::Fdatasync => "fdatasync",
        }
    }

    /// Writes back every line that overlaps `len` bytes at `at`.
    ///
    /// # Safety
    /// The range is mapped.
    pub(crate) unsafe fn write_back(self, at: *const u8, len: usize) {
        if matches!(self, Self::None | Self::Fdatasync) || len == 0 {
            return;
        }
        let line = LINE as usize;
        let first = at as usize & !(line - 1);
        let end = at as usize + len;
        for address in (first..end).step_by(line) {
            let pointer = address as *const u8;
            // SAFETY: the line overlaps a mapped range, and mappings are whole pages, so the line is mapped.
            unsafe {
                match self {
                    Self::Clwb => asm!("clwb [{}]", in(reg) pointer, options(nostack, preserves_flags)),
                    Self::ClflushOpt => asm!("clflushopt [{}]", in(reg) pointer, options(nostack, preserves_flags)),
                    _ => _mm_clflush(pointer),
                }
            }
        }
    }
}

/// Orders every earlier store, write-back and streamed store of this thread before the later ones.
pub(crate) fn store_fence() {
    // SAFETY: sfence is part of SSE, which every x86-64 CPU has.
    unsafe { _mm_sfence() }
}

/// Below this, a plain store and a write-back are faster than streaming past the cache.
const STREAM_MIN_BYTES: usize = 256;

/// Copies bulk bytes with non-temporal stores, the ragged ends with plain stores and `flush`.
///
/// # Safety
/// `to` is valid for writing `bytes.len()` bytes.
pub(crate) unsafe fn stream_copy(to: *mut u8, bytes: &[u8], flush: Flush) {
    let head = to.align_offset(16).min(bytes.len());
    if flush == Flush::Fdatasync || bytes.len() < STREAM_MIN_BYTES {
        // SAFETY: the caller's promise; the write-back covers what was just stored.
        unsafe {
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            flush.write_back(to, bytes.len());
        }
        return;
    }
    let body = (bytes.len() - head) & !15;
    let tail = head + body;
    // SAFETY: `head`, `body` and the tail tile `bytes`, so every access stays within the caller's range; the
    // streamed stores are 16-byte aligned because `head` is the distance to the next such address.
    unsafe {
        to.copy_from_nonoverlapping(bytes.as_ptr(), head);
        flush.write_back(to, head);
        for at in (head..tail).step_by(16) {
            let word: __m128i = _mm_loadu_si128(bytes.as_ptr().add(at).cast());
            _mm_stream_si128(to.add(at).cast(), word);
        }
        to.add(tail).copy_from_nonoverlapping(bytes.as_ptr().add(tail), bytes.len() - tail);
        flush.write_back(to.add(tail), bytes.len() - tail);
    }
}
