//! Private memory that bytes of a pool come from and go to, as the crates above see it.

/// Memory that bytes come from: a tensor's own.
pub trait Source: Sync {
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Copies `out.len()` bytes, starting at `at`; the range is inside.
    fn copy_out(&self, at: usize, out: &mut [u8]);
    /// Shows `len` bytes, starting at `at`; the range is inside. A copy of them, unless they can be shown in their place.
    fn look<T>(&self, at: usize, len: usize, see: impl FnOnce(&[u8]) -> T) -> T {
        let mut copy = vec![0; len];
        self.copy_out(at, &mut copy);
        see(&copy)
    }
    /// Asks for `len` bytes, starting at `at`, to be in the cache soon; the range is inside. A hint: nothing is read.
    fn prefetch(&self, _at: usize, _len: usize) {}
    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Source> Source for &S {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn copy_out(&self, at: usize, out: &mut [u8]) {
        (**self).copy_out(at, out);
    }

    fn look<T>(&self, at: usize, len: usize, see: impl FnOnce(&[u8]) -> T) -> T {
        (**self).look(at, len, see)
    }

    fn prefetch(&self, at: usize, len: usize) {
        (**self).prefetch(at, len);
    }
}

/// Memory that bytes go to: a tensor's own.
pub trait Target: Sync {
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Writes bytes, starting at `at`; the range is inside.
    fn copy_in(&self, at: usize, bytes: &[u8]);
    /// Shows `len` bytes, starting at `at`, to be written in their place; the range is inside.
    fn fill<T>(&self, at: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T;
    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
