//! Memory for secrets that stay: out of core dumps, off the swap, wiped when dropped; where the kernel can, also out of the
//! reach of whoever reads this process's memory, root included.
//!
//! Known crates do not fit: `memsec` (0.7) opens its `memfd_secret` without `O_CLOEXEC`, so that a started program inherits
//! the secret, and keeps a descriptor and four pages for each; `secrets` needs libsodium and knows no `memfd_secret`.

mod page;

use std::fmt;
use std::ops::Deref;
use std::process;

use page::Page;
use zeroize::Zeroize;

/// How well a secret is kept; the better, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Custody {
    /// In ordinary memory, out of core dumps; it may be swapped. The process may lock no more memory (`ulimit -l`).
    Plain,
    /// Locked into memory, and out of core dumps.
    Locked,
    /// In pages that the kernel takes out of its own map (memfd_secret(2)): neither another process nor the kernel's own
    /// reading of a process's memory (`/proc/PID/mem`, ptrace, `process_vm_readv`, core dumps) reaches them.
    MemfdSecret,
}

impl Custody {
    const BEST_FIRST: [Self; 3] = [Self::MemfdSecret, Self::Locked, Self::Plain];

    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Locked => "locked",
            Self::MemfdSecret => "memfd_secret",
        }
    }

    /// The best that this process can get now.
    pub fn available() -> Self {
        Secret::<1>::new().custody()
    }
}

/// Bytes of a secret. `N` is at most `MAX_SECRET_BYTES`.
///
/// Each has a page of its own: a page that several shared would have to be shared out anew in each forked child. A forked
/// child can read the secrets of its parent; when it drops one, the parent's stays whole.
pub struct Secret<const N: usize> {
    page: Page,
    /// The process that made it: a page of memfd_secret is the same page in a forked child.
    owner_pid: u32,
}

/// The largest secret there is.
pub const MAX_SECRET_BYTES: usize = page::BYTES;

impl<const N: usize> Secret<N> {
    const FITS: () = assert!(N <= MAX_SECRET_BYTES, "a secret has one page");

    /// Zeros, in the best memory that this process can get.
    ///
    /// It does not fail where memory cannot be locked: the weights and batches that a key protects lie in ordinary memory of
    /// the same process anyway, and a training that stops for want of a locked page protects nobody. What was got is told by
    /// `custody`.
    ///
    /// # Panics
    /// There is no memory at all, as any allocation does.
    pub fn new() -> Self {
        let () = Self::FITS;
        let page = Custody::BEST_FIRST.into_iter().find_map(Page::new).expect("a page of memory");
        Self { page, owner_pid: process::id() }
    }

    /// How well it is kept.
    pub fn custody(&self) -> Custody {
        self.page.custody()
    }

    /// The bytes, to be filled in place: no copy is left elsewhere.
    pub fn bytes_mut(&mut self) -> &mut [u8; N] {
        self.page.as_mut().first_chunk_mut().expect("checked at compile time: a secret fits its page")
    }
}

impl<const N: usize> Default for Secret<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Secret<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        self.page.as_ref().first_chunk().expect("checked at compile time: a secret fits its page")
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        if self.owner_pid == process::id() || !self.page.is_shared_with_children() {
            self.page.as_mut().zeroize();
        }
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests;
