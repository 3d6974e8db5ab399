//! Knowing a forked child from its parent without a system call.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

const PAGE: usize = 4096;

/// The last number that was given to a process on the line from the first one that asked to this one. Unlike a process id
/// a number is never used again on that line.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Differs between a process and every one that it was forked from.
#[inline]
pub fn generation() -> u64 {
    match word() {
        None => u64::from(std::process::id()),
        Some(word) => match word.load(Ordering::Acquire) {
            0 => begin(word),
            generation => generation,
        },
    }
}

/// The first thread that asks in this process decides; the kernel has emptied the word for it.
#[cold]
fn begin(word: &AtomicU64) -> u64 {
    // ORDER: counted before it is used, so that a child that is forked between the two does not use it again.
    let next = LAST.fetch_add(1, Ordering::AcqRel) + 1;
    match word.compare_exchange(0, next, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => next,
        Err(generation) => generation,
    }
}

/// A word that reads as zero in a forked child; `None`: this kernel has no such memory.
fn word() -> Option<&'static AtomicU64> {
    static WORD: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *WORD.get_or_init(|| {
        // SAFETY: a fresh private page that stays mapped for ever, zero and aligned: a valid atomic word. If the kernel
        // does not know the advice, the page is given back, and nobody has seen it.
        unsafe {
            let page =
                mmap_anonymous(ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?;
            if madvise(page, PAGE, Advice::LinuxWipeOnFork).is_err() {
                let _ = munmap(page, PAGE);
                return None;
            }
            Some(AtomicU64::from_ptr(page.cast()))
        }
    })
}
