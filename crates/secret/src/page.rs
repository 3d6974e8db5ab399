//! One page of memory of a kind.

use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::ftruncate;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap};

use crate::Custody;

/// Length of a page.
pub const BYTES: usize = 4096;

const ACCESS: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A page of zeros, unmapped when dropped.
pub struct Page {
    first: NonNull<u8>,
    custody: Custody,
}

// SAFETY: the page is ordinary memory that belongs to this struct alone; `as_mut` needs it exclusively.
unsafe impl Send for Page {}
// SAFETY: as above; `as_ref` only reads.
unsafe impl Sync for Page {}

impl Page {
    /// A page of this kind; `None`: the kernel has none for us.
    pub fn new(custody: Custody) -> Option<Self> {
        let first = match custody {
            Custody::MemfdSecret => secret()?,
            Custody::Locked => locked()?,
            Custody::Plain => private()?,
        };
        Some(Self { first, custody })
    }

    pub fn custody(&self) -> Custody {
        self.custody
    }

    /// Whether a forked child has this very page, not a copy of it.
    pub fn is_shared_with_children(&self) -> bool {
        self.custody == Custody::MemfdSecret
    }

    pub fn as_ref(&self) -> &[u8; BYTES] {
        // SAFETY: mapped, readable, BYTES long, and nobody else writes it while it is borrowed.
        unsafe { self.first.cast().as_ref() }
    }

    pub fn as_mut(&mut self) -> &mut [u8; BYTES] {
        // SAFETY: mapped, writable, BYTES long, and borrowed exclusively.
        unsafe { self.first.cast().as_mut() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and the last use of it.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), BYTES) };
    }
}

/// memfd_secret(2). Its memory is locked, out of core dumps, and counts against RLIMIT_MEMLOCK; it lives as long as the
/// mapping does, so the descriptor, by which it could be mapped again, is closed at once.
fn secret() -> Option<NonNull<u8>> {
    // SAFETY: the call takes flags only and returns a descriptor that is ours, or an error.
    let file = unsafe {
        let descriptor = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC);
        OwnedFd::from_raw_fd(i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?)
    };
    ftruncate(&file, BYTES as u64).ok()?;
    // SAFETY: a fresh mapping at an address that the kernel chooses.
    let mapped = unsafe { mmap(ptr::null_mut(), BYTES, ACCESS, MapFlags::SHARED, &file, 0) };
    NonNull::new(mapped.ok()?.cast())
}

fn locked() -> Option<NonNull<u8>> {
    let first: NonNull<u8> = private()?;
    // SAFETY: our own page.
    if unsafe { mlock(first.as_ptr().cast(), BYTES) }.is_err() {
        // SAFETY: our own mapping, which nobody has seen.
        let _ = unsafe { munmap(first.as_ptr().cast(), BYTES) };
        return None;
    }
    Some(first)
}

/// Out of core dumps. Not emptied in a forked child (`MADV_WIPEONFORK`): it would go on with a key of zeros, and seal.
fn private() -> Option<NonNull<u8>> {
    // SAFETY: a fresh mapping at an address that the kernel chooses; the advice changes no byte of it.
    unsafe {
        let mapped = mmap_anonymous(ptr::null_mut(), BYTES, ACCESS, MapFlags::PRIVATE).ok()?;
        let _ = madvise(mapped, BYTES, Advice::LinuxDontDump);
        NonNull::new(mapped.cast())
    }
}
