//! An allocator that ends the process when it is asked for more memory than any input may cost.
//!
//! libFuzzer's `-malloc_limit_mb` needs a sanitizer, and sanitizers need a nightly compiler; its `-rss_limit_mb` looks once
//! a second and misses what is given back before. libFuzzer itself, which is C++, does not come by here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An input and what its region may grow to are 1 MiB, of which a run holds a handful of copies.
const LIMIT_BYTES: usize = 32 << 20;

/// Bytes that are allocated now. 0 again means also: the limit was exceeded once, do not say so twice.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The allocator.
pub struct Bounded;

fn count(bytes: usize) {
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    // A panic that is being told may read debug information.
    if live > LIMIT_BYTES && !std::thread::panicking() {
        // The message allocates.
        LIVE_BYTES.store(0, Ordering::Relaxed);
        eprintln!("memory is not bounded: {bytes} bytes more make {live}");
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory that was allocated here.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static BOUNDED: Bounded = Bounded;
