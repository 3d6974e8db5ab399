//! The instructions that make stores durable, chosen by what the CPU has and what the medium needs.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, __m128i, _mm_clflush, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

use crate::error::{Error, Result};
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

/// The write-back instructions, the best first, and the bit of `cpuid` leaf 7 that announces each.
const INSTRUCTIONS: [(Flush, u32); 3] = [(Flush::Clwb, 1 << 24), (Flush::ClflushOpt, 1 << 23), (Flush::Clflush, 0)];

impl Flush {
    /// The best write-back instruction of this CPU.
    pub fn best_instruction() -> Self {
        available(features()).next().unwrap_or(Self::Clflush)
    }

    /// Reads the word of a user: `auto` (`None`: what suits the medium), `clwb`, `clflushopt`, `clflush` or `none`.
    ///
    /// # Errors
    /// Another word, or an instruction that this CPU lacks (`Error::Misuse`).
    pub fn parse(word: &str) -> Result<Option<Self>> {
        parse_on(word, features())
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
}

/// Feature bits of `cpuid` leaf 7. Every x86-64 CPU has it or answers zeros for it.
fn features() -> u32 {
    __cpuid_count(7, 0).ebx
}

fn available(features: u32) -> impl Iterator<Item = Flush> {
    INSTRUCTIONS.into_iter().filter(move |(_, bit)| features & bit == *bit).map(|(flush, _)| flush)
}

fn parse_on(word: &str, features: u32) -> Result<Option<Flush>> {
    let known = [Flush::Clwb, Flush::ClflushOpt, Flush::Clflush, Flush::None];
    match known.into_iter().find(|flush| flush.name() == word) {
        None if word == "auto" => Ok(None),
        None => Err(Error::Misuse(format!(
            "flush={word:?} is not known; use \"auto\", \"clwb\", \"clflushopt\", \"clflush\" or \"none\""
        ))),
        Some(flush) if flush == Flush::None || available(features).any(|one| one == flush) => Ok(Some(flush)),
        Some(_) => {
            let has: Vec<_> = available(features).map(Flush::name).collect();
            Err(Error::Misuse(format!(
                "this CPU has no {word}, it has {}; use one of these, or flush=\"auto\", which takes the best",
                has.join(" and ")
            )))
        }
    }
}

/// Orders every earlier store, write-back and streamed store of this thread before the later ones.
#[inline]
pub(crate) fn store_fence() {
    // SAFETY: sfence is part of SSE, which every x86-64 CPU has.
    unsafe { _mm_sfence() }
}

/// What the functions below are made of, so that a test can see which bytes they leave in the cache.
pub(crate) trait Instructions: Copy {
    /// Whether stores past the cache pay: not where `fdatasync` looks for dirty pages anyway.
    fn streams(self) -> bool;

    /// Whether lines are written back at all.
    fn writes_back(self) -> bool;

    /// Starts the write-back of one line.
    ///
    /// # Safety
    /// `line` is mapped.
    unsafe fn write_back_line(self, line: *const u8);

    /// Stores 16 bytes past the cache.
    ///
    /// # Safety
    /// 16 bytes at `from` may be read, and 16 bytes at `to`, which is a multiple of 16, may be written.
    unsafe fn stream_16(self, from: *const u8, to: *mut u8);
}

impl Instructions for Flush {
    #[inline]
    fn streams(self) -> bool {
        self != Self::Fdatasync
    }

    #[inline]
    fn writes_back(self) -> bool {
        !matches!(self, Self::None | Self::Fdatasync)
    }

    #[inline]
    unsafe fn write_back_line(self, line: *const u8) {
        // SAFETY: the caller's promise; the instruction was found on this CPU.
        unsafe {
            match self {
                Self::Clwb => asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)),
                Self::ClflushOpt => asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)),
                Self::Clflush => _mm_clflush(line),
                Self::None | Self::Fdatasync => {}
            }
        }
    }

    #[inline]
    unsafe fn stream_16(self, from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let word: __m128i = _mm_loadu_si128(from.cast());
            _mm_stream_si128(to.cast(), word);
        }
    }
}

/// Writes back every line that overlaps `len` bytes at `at`.
///
/// # Safety
/// The range is mapped.
#[inline]
pub(crate) unsafe fn write_back(cpu: impl Instructions, at: *const u8, len: usize) {
    if len == 0 || !cpu.writes_back() {
        return;
    }
    let line = LINE as usize;
    let before = at as usize % line;
    for offset in (0..before + len).step_by(line) {
        // SAFETY: the line overlaps a mapped range, and mappings are whole pages, so the line is mapped.
        unsafe { cpu.write_back_line(at.wrapping_sub(before).wrapping_add(offset)) }
    }
}

/// Below this, a plain store and a write-back are faster than streaming past the cache.
const STREAM_MIN_BYTES: usize = 256;

/// Copies bulk bytes with streamed stores, the ragged ends with plain stores and a write-back.
///
/// # Safety
/// `to` is valid for writing `bytes.len()` bytes.
pub(crate) unsafe fn stream_copy(cpu: impl Instructions, to: *mut u8, bytes: &[u8]) {
    if !cpu.streams() || bytes.len() < STREAM_MIN_BYTES {
        // SAFETY: the caller's promise; the write-back covers what was just stored.
        unsafe {
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            write_back(cpu, to, bytes.len());
        }
        return;
    }
    let head = to.align_offset(16).min(bytes.len());
    let body = (bytes.len() - head) & !15;
    let tail = head + body;
    // SAFETY: `head`, `body` and the tail tile `bytes`, so every access stays within the caller's range; the
    // streamed stores are 16-byte aligned because `head` is the distance to the next such address.
    unsafe {
        to.copy_from_nonoverlapping(bytes.as_ptr(), head);
        write_back(cpu, to, head);
        for at in (head..tail).step_by(16) {
            cpu.stream_16(bytes.as_ptr().add(at), to.add(at));
        }
        to.add(tail).copy_from_nonoverlapping(bytes.as_ptr().add(tail), bytes.len() - tail);
        write_back(cpu, to.add(tail), bytes.len() - tail);
    }
}

/// Copies whole lines, a few at a time as a rule: with streamed stores where they save a write-back, else with plain ones.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes. All three are multiples of 64, and the ranges are apart.
#[inline]
pub(crate) unsafe fn copy_lines(cpu: impl Instructions, from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; steps of 16 from an aligned address stay aligned and, as `len` is a multiple of 16,
    // inside.
    unsafe {
        if !cpu.writes_back() {
            to.copy_from_nonoverlapping(from, len);
            return;
        }
        for at in (0..len).step_by(16) {
            cpu.stream_16(from.add(at), to.add(at));
        }
    }
}

#[cfg(test)]
mod tests;
