//! Borrowing the memory of Python objects.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ptr;

use plinius_medium::{Source, Target};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

const LINE_BYTES: usize = 64;

/// The bytes behind a Python buffer, borrowed for as long as this lives.
///
/// Other Python threads may write them meanwhile, as with any NumPy call that releases the GIL: so they are copied, and no
/// reference into them is made but by `look` and `fill`, which say why they may.
pub struct Borrowed {
    pointer: *mut u8,
    len: usize,
    /// Keeps the memory in place.
    _buffer: PyBuffer<u8>,
}

// SAFETY: the buffer keeps the memory alive and in place; all access is through the raw pointer, in `look` and `fill` with
// more to it.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl Borrowed {
    /// Borrows for reading.
    pub fn read(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("a contiguous buffer of bytes is needed"));
        }
        Ok(Self { pointer: buffer.buf_ptr().cast(), len: buffer.len_bytes(), _buffer: buffer })
    }

    /// Borrows for writing.
    pub fn write(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let borrowed = Self::read(object)?;
        if borrowed._buffer.readonly() {
            return Err(PyBufferError::new_err("a writable buffer is needed"));
        }
        Ok(borrowed)
    }

    /// Where it begins, and how long it is.
    pub fn span(&self) -> (usize, usize) {
        (self.pointer as usize, self.len)
    }

    /// A private copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_out(0, &mut bytes);
        bytes
    }
}

impl Source for Borrowed {
    fn len(&self) -> usize {
        self.len
    }

    fn prefetch(&self, at: usize, len: usize) {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "prefetch outside a borrowed buffer");
        for offset in (at..at + len).step_by(LINE_BYTES) {
            // SAFETY: the address is inside the borrowed memory (checked above), and a hint accesses nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.pointer.add(offset).cast()) }
        }
    }

    fn copy_out(&self, at: usize, out: &mut [u8]) {
        assert!(at.checked_add(out.len()).is_some_and(|end| end <= self.len), "read outside a borrowed buffer");
        // SAFETY: the range is inside the borrowed memory (checked above); `out` is private.
        unsafe { ptr::copy_nonoverlapping(self.pointer.add(at), out.as_mut_ptr(), out.len()) }
    }

    fn look<T>(&self, at: usize, len: usize, see: impl FnOnce(&[u8]) -> T) -> T {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "read outside a borrowed buffer");
        // SAFETY: the range is inside the borrowed memory (checked above), which lives for longer than `see` takes. Either the
        // thread that called `save` waits, and nobody who keeps to the rule of saving between two steps writes meanwhile; or
        // it is a private copy, since what a save in the background leaves in its place is watched, and what is watched is
        // copied (`Writing::seal_chunk`). A copy would cost what the look does.
        see(unsafe { std::slice::from_raw_parts(self.pointer.add(at), len) })
    }
}

impl Target for Borrowed {
    fn len(&self) -> usize {
        self.len
    }

    fn fill<T>(&self, at: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "write outside a borrowed buffer");
        // SAFETY: the range is inside the borrowed memory (checked above), which `write` found to be writable and which lives
        // for longer than `fill` takes. It is a part of the state that `restore` waits to be filled, which nobody uses
        // meanwhile; and what overlaps is filled one after the other (`are_apart` in `Reading.open`).
        fill(unsafe { std::slice::from_raw_parts_mut(self.pointer.add(at), len) })
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "write outside a borrowed buffer");
        // SAFETY: the range is inside the borrowed memory (checked above), which `write` found to be writable.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer.add(at), bytes.len()) }
    }
}
