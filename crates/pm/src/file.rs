//! A pool file, mapped at a fixed place in a large reservation of address space, so that growing never moves it.

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, fdatasync, fstatvfs, fsync};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::error::{Error, Result};
use crate::medium::Medium;
use crate::persist::{Flush, store_fence, stream_copy};
use crate::region::Region;

/// Address space reserved for a pool, and so the largest pool: it costs nothing until it is used.
pub const MAX_POOL_BYTES: u64 = 1 << 40;
const PAGE: u64 = 4096;

/// The real region: a file and its mapping.
pub struct MappedFile {
    file: Arc<File>,
    base: *mut u8,
    len: AtomicU64,
    map_sync: bool,
    medium: Medium,
    flush: Flush,
}

// SAFETY: the mapping is shared memory that other processes may change at any moment anyway; every access copies bytes
// through raw pointers and no reference into the mapping is ever made. `len` only grows.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps the whole file, which may be empty.
    pub fn map(file: Arc<File>) -> Result<Self> {
        let len = file.metadata().map_err(|source| Error::Io { action: "asking for the pool's size", source })?.len();
        let base = reserve()?;
        let mut mapped =
            Self { file, base, len: AtomicU64::new(0), map_sync: false, medium: Medium::File, flush: Flush::Fdatasync };
        if len > MAX_POOL_BYTES {
            return Err(Error::NotAPool("it is larger than any pool can be"));
        }
        mapped.map_sync = accepts_map_sync(&mapped.file);
        mapped.medium = Medium::detect(mapped.file.as_fd(), mapped.map_sync)?;
        mapped.flush = mapped.medium.flush();
        mapped.extend_mapping(len / PAGE * PAGE)?;
        Ok(mapped)
    }

    /// What lies under the file.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// The write-back in use.
    pub fn flush(&self) -> Flush {
        self.flush
    }

    /// The file behind the mapping.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn extend_mapping(&self, to: u64) -> Result<()> {
        let from = self.len();
        if to <= from {
            return Ok(());
        }
        let sync = if self.map_sync { MapFlags::SYNC } else { MapFlags::empty() };
        let flags = MapFlags::SHARED_VALIDATE | MapFlags::FIXED | sync;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: `to <= MAX_POOL_BYTES`, so the new pages replace part of our own reservation, which nothing uses yet.
        unsafe { mmap(self.base.add(from as usize).cast(), (to - from) as usize, access, flags, &self.file, from) }
            .map_err(Error::io("mapping the pool"))?;
        self.len.store(to, Ordering::Release);
        Ok(())
    }

    fn check(&self, at: u64, len: usize) {
        let end = at.checked_add(len as u64);
        assert!(end.is_some_and(|end| end <= self.len()), "access outside the pool: {len} bytes at {at}");
    }

    fn full(&self, needed_bytes: u64) -> Error {
        let free_bytes = fstatvfs(&self.file).map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize));
        let advice = "free some space, or move the pool file to a larger medium and go on there";
        Error::Full { what: "the pool's medium", needed_bytes, free_bytes, advice }
    }
}

impl Region for MappedFile {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn check_whole(&self) -> Result<()> {
        let facts =
            self.file.metadata().map_err(|source| Error::Io { action: "asking for the pool's size", source })?;
        if facts.len() >= self.len() {
            return Ok(());
        }
        Err(Error::corrupt(format!("it was truncated to {} bytes while it was open", facts.len())))
    }

    fn load(&self, at: u64, out: &mut [u8]) {
        self.check(at, out.len());
        // SAFETY: the range is mapped (checked above) and `out` is private memory that cannot overlap the mapping.
        unsafe { ptr::copy_nonoverlapping(self.base.add(at as usize), out.as_mut_ptr(), out.len()) }
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: the range is mapped (checked above). A single word goes by one store, so that it cannot be torn.
        unsafe {
            let to = self.base.add(at as usize);
            match <[u8; 8]>::try_from(bytes) {
                Ok(word) if at.is_multiple_of(8) => ptr::write_volatile(to.cast::<u64>(), u64::from_ne_bytes(word)),
                _ => ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()),
            }
        }
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: the range is mapped (checked above).
        unsafe { stream_copy(self.base.add(at as usize), bytes, self.flush) }
    }

    fn pwb(&self, at: u64, len: u64) {
        self.check(at, len as usize);
        // SAFETY: the range is mapped (checked above).
        unsafe { self.flush.write_back(self.base.add(at as usize), len as usize) }
    }

    fn thread_fence(&self) {
        // ORDER: streamed stores of this thread reach the medium before it reports that it is done. On an ordinary
        // file the committing thread's `pfence` covers the stores of all threads.
        store_fence();
    }

    fn pfence(&self) -> Result<()> {
        // ORDER: all that was written back before, before all that is stored after; `sfence` orders clwb, clflushopt
        // and streamed stores of this thread, `fdatasync` every dirty page of the file.
        store_fence();
        if self.flush == Flush::Fdatasync {
            fdatasync(&self.file).map_err(Error::io("writing the pool to its medium"))?;
        }
        Ok(())
    }

    fn psync(&self) -> Result<()> {
        // ORDER: on all x86-64 media a fence also waits, so durable and ordered are the same.
        self.pfence()
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let old = self.len();
        if bytes > MAX_POOL_BYTES {
            let advice = "this is the largest pool there is";
            return Err(Error::Full { what: "the pool's address space", needed_bytes: bytes, free_bytes: old, advice });
        }
        // A signal in the middle is no failure; some kernels let it end the call.
        match retry_on_intr(|| fallocate(&self.file, FallocateFlags::empty(), old, bytes - old)) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::FBIG | Errno::DQUOT) => return Err(self.full(bytes - old)),
            Err(errno) => return Err(Error::io("allocating space for the pool")(errno)),
        }
        fsync(&self.file).map_err(Error::io("writing the pool's new size to its medium"))?;
        self.extend_mapping(bytes)
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: this is our own reservation, whole; no pointer into it outlives the struct.
        let _ = unsafe { munmap(self.base.cast(), MAX_POOL_BYTES as usize) };
    }
}

/// Whether the kernel maps a file with `MAP_SYNC`: it is on DAX then.
pub fn accepts_map_sync(file: &File) -> bool {
    // SAFETY: a fresh mapping at an address that the kernel chooses, unmapped at once and never accessed.
    unsafe {
        let flags = MapFlags::SHARED_VALIDATE | MapFlags::SYNC;
        match mmap(ptr::null_mut(), PAGE as usize, ProtFlags::READ, flags, file, 0) {
            Ok(probe) => munmap(probe, PAGE as usize).is_ok(),
            Err(_) => false,
        }
    }
}

fn reserve() -> Result<*mut u8> {
    // SAFETY: a fresh anonymous mapping at an address that the kernel chooses; without access rights it costs nothing.
    unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            MAX_POOL_BYTES as usize,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map(|base| base.cast())
    .map_err(Error::io("reserving address space for the pool (is `ulimit -v` set?)"))
}
