use std::cell::RefCell;

use super::*;

const MEMORY_BYTES: usize = 1024;

/// Memory that begins at a cache line.
#[repr(align(64))]
struct Memory([u8; MEMORY_BYTES]);

/// A CPU that remembers what reached the medium: whatever was streamed, and a line as it was when it was written back.
#[derive(Clone, Copy)]
struct Recorder<'a> {
    base: *mut u8,
    medium: &'a RefCell<Vec<u8>>,
    flush: Flush,
}

impl Recorder<'_> {
    /// Takes bytes of the memory over to the medium.
    fn reach(self, from: *const u8, len: usize) {
        let at = from as usize - self.base as usize;
        assert!(at + len <= MEMORY_BYTES, "{len} bytes at {at} are outside");
        // SAFETY: inside the memory (checked above), which only this thread uses.
        let bytes = unsafe { std::slice::from_raw_parts(from, len) };
        self.medium.borrow_mut()[at..at + len].copy_from_slice(bytes);
    }
}

impl Instructions for Recorder<'_> {
    fn streams(self) -> bool {
        self.flush.streams()
    }

    fn writes_back(self) -> bool {
        self.flush.writes_back()
    }

    unsafe fn write_back_line(self, line: *const u8) {
        assert!(self.writes_back() && (line as usize).is_multiple_of(64), "{line:?} was written back");
        self.reach(line, 64);
    }

    unsafe fn stream_16(self, from: *const u8, to: *mut u8) {
        assert!(self.streams() && (to as usize).is_multiple_of(16), "a streamed store to {to:?}");
        // SAFETY: the caller's promise.
        unsafe { to.copy_from(from, 16) };
        self.reach(to, 16);
    }
}

/// Runs something on fresh memory that holds 1, 2, 3... and returns what is in the memory and what reached the medium.
fn on_memory(flush: Flush, run: impl FnOnce(Recorder<'_>)) -> (Vec<u8>, Vec<u8>) {
    let mut memory = Memory([0; MEMORY_BYTES]);
    for (at, byte) in memory.0.iter_mut().enumerate() {
        *byte = (at % 251) as u8 + 1;
    }
    let medium = RefCell::new(vec![0; MEMORY_BYTES]);
    run(Recorder { base: memory.0.as_mut_ptr(), medium: &medium, flush });
    (memory.0.to_vec(), medium.into_inner())
}

#[test]
fn each_line_of_a_range_is_written_back_and_no_other() {
    for at in 0..130 {
        for len in 0..200 {
            let (memory, medium) = on_memory(Flush::Clwb, |cpu| {
                // SAFETY: the range is inside the memory.
                unsafe { write_back(cpu, cpu.base.add(at), len) }
            });
            let (first, end) = (at / 64 * 64, (at + len).next_multiple_of(64));
            let expected = if len == 0 { at..at } else { first..end };
            for (offset, byte) in medium.iter().enumerate() {
                let reached = if expected.contains(&offset) { memory[offset] } else { 0 };
                assert_eq!(*byte, reached, "byte {offset} of {len} at {at}");
            }
        }
    }
}

/// Whatever is in the memory is safe without the medium: the caches persist, or `fdatasync` looks for it.
const SAFE_IN_THE_CACHE: [Flush; 2] = [Flush::None, Flush::Fdatasync];

#[test]
fn each_byte_that_is_streamed_reaches_the_medium_whatever_its_place() {
    let bytes: Vec<u8> = (0..600_usize).map(|at| (at % 249) as u8 + 2).collect();
    let (before, _) = on_memory(Flush::Clwb, |_| {});
    let lengths = (0..36).chain(250..292).chain([511, 512, 513, 600]);
    for (len, at) in lengths.flat_map(|len| (0..66).map(move |at| (len, at))) {
        for flush in [Flush::Clwb, Flush::None, Flush::Fdatasync] {
            let (memory, medium) = on_memory(flush, |cpu| {
                // SAFETY: the range is inside the memory.
                unsafe { stream_copy(cpu, cpu.base.add(at), &bytes[..len]) }
            });
            let reached = SAFE_IN_THE_CACHE.contains(&flush) || medium[at..at + len] == bytes[..len];
            assert!(reached, "{len} bytes at {at} are not all on the medium");
            assert!(memory[at..at + len] == bytes[..len], "{len} bytes at {at}");
            assert!(memory[..at] == before[..at] && memory[at + len..] == before[at + len..], "beside {len} at {at}");
        }
    }
}

#[test]
fn copied_lines_reach_the_medium() {
    for (from, to, len) in [(0, 64, 64), (512, 0, 512), (64, 576, 448), (128, 0, 0)] {
        for flush in [Flush::Clwb, Flush::None, Flush::Fdatasync] {
            let (memory, medium) = on_memory(flush, |cpu| {
                // SAFETY: both ranges are inside the memory, and apart.
                unsafe { copy_lines(cpu, cpu.base.add(from), cpu.base.add(to), len) }
            });
            assert!(memory[to..to + len] == memory[from..from + len], "{len} bytes from {from} to {to}");
            let reached = SAFE_IN_THE_CACHE.contains(&flush) || medium[to..to + len] == memory[to..to + len];
            assert!(reached, "{len} bytes from {from} to {to} are not all on the medium");
        }
    }
}

/// The real instructions: what they make durable cannot be seen, but what they write can.
#[test]
fn the_real_instructions_write_what_they_are_given() {
    let bytes: Vec<u8> = (0..900_usize).map(|at| (at % 249) as u8 + 2).collect();
    let flushes = available(features()).chain(SAFE_IN_THE_CACHE);
    for flush in flushes {
        for (at, len) in [(0, 900), (1, 300), (17, 255), (63, 640), (3, 5)] {
            let mut memory = Memory([1; MEMORY_BYTES]);
            // SAFETY: the ranges are inside the memory.
            unsafe {
                stream_copy(flush, memory.0.as_mut_ptr().add(at), &bytes[..len]);
                write_back(flush, memory.0.as_ptr().add(at), len);
            }
            store_fence();
            assert!(memory.0[at..at + len] == bytes[..len], "{flush:?}: {len} bytes at {at}");
            assert!(memory.0[..at].iter().chain(&memory.0[at + len..]).all(|byte| *byte == 1), "{flush:?}");
            let half = memory.0.as_mut_ptr();
            // SAFETY: the halves of the memory.
            unsafe { copy_lines(flush, half, half.add(512), 512) }
            store_fence();
            assert!(memory.0[512..] == memory.0[..512], "{flush:?}");
        }
    }
}

#[test]
fn a_word_for_the_write_back_is_known_and_the_cpu_has_it() {
    let all = 1 << 24 | 1 << 23;
    assert_eq!(parse_on("auto", 0).unwrap(), None);
    assert_eq!(parse_on("none", 0).unwrap(), Some(Flush::None));
    assert_eq!(parse_on("clflush", 0).unwrap(), Some(Flush::Clflush));
    assert_eq!(parse_on("clflushopt", all).unwrap(), Some(Flush::ClflushOpt));
    assert_eq!(parse_on("clwb", all).unwrap(), Some(Flush::Clwb));
    assert_eq!(Flush::parse("clflush").unwrap(), Some(Flush::Clflush));
    let refused = parse_on("clwb", 1 << 23).unwrap_err().to_string();
    assert!(refused.starts_with("this CPU has no clwb, it has clflushopt and clflush;"), "{refused}");
    let refused = parse_on("clflushopt", 0).unwrap_err().to_string();
    assert!(refused.starts_with("this CPU has no clflushopt, it has clflush;"), "{refused}");
    for word in ["", "CLWB", "fdatasync", "fast"] {
        let refused = parse_on(word, all).unwrap_err().to_string();
        assert!(refused.contains("is not known"), "{refused}");
    }
}

#[test]
fn the_best_instruction_is_the_one_that_leaves_the_line_in_the_cache() {
    assert_eq!(available(1 << 24 | 1 << 23).next(), Some(Flush::Clwb));
    assert_eq!(available(1 << 23).next(), Some(Flush::ClflushOpt));
    assert_eq!(available(0).next(), Some(Flush::Clflush));
}
