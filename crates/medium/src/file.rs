//! A pool file, mapped at a fixed place in a large reservation of address space, so that growing never moves it.

use std::fs::{File, Metadata};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{fdatasync, fsync};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, Result};
use crate::medium::{Durability, Medium, compresses, durability};
use crate::persist::{Flush, copy_lines, store_fence, stream_copy, write_back};
use crate::region::{LINE, Region};
use crate::sigbus::{Fault, Reservation};
use crate::space::{allocate, free_bytes, full, has_holes, metadata, shows_holes};

/// The page of every medium here.
pub const PAGE: u64 = 4096;
/// Address space reserved for a pool, and so the largest pool: it costs nothing until it is used.
pub const MAX_POOL_BYTES: u64 = 1 << 40;

/// A file for as long as it is mapped: owned, or borrowed of whoever keeps it open.
pub type OpenFile = Box<dyn Deref<Target = File> + Send + Sync>;

/// The real region: a file and its mapping.
pub struct MappedFile {
    file: OpenFile,
    reservation: Reservation,
    len: AtomicU64,
    map_sync: bool,
    medium: Medium,
    flush: Flush,
    /// It had no hole when it was opened, and its file system tells of holes: one that comes later is damage.
    shows_holes: bool,
    damage: OnceLock<Damage>,
    /// Why bulk bytes could not be written to an ordinary file, by the system's number.
    unwritten: OnceLock<i32>,
    growing: Mutex<()>,
}

/// Why an access to the mapping failed.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut { file_bytes: u64 },
    Hollow,
    NoSpace { free_bytes: u64 },
    Unusable { bad_memory: bool },
}

// SAFETY: the mapping is shared memory that other processes may change at any moment anyway; every access copies bytes
// through raw pointers and no reference into the mapping is ever made. `len` only grows.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps the whole file, which may be empty, to be written back with `flush`, or with what its medium needs.
    ///
    /// # Errors
    /// A commit would not survive what it is required to (`Error::Durability`), or the system refused something
    /// (`Error::Io`): the file was not touched.
    pub fn map(file: OpenFile, flush: Option<Flush>, require: Option<Durability>) -> Result<Self> {
        let medium = Medium::detect(file.as_fd(), accepts_map_sync(&**file))?;
        Self::map_on(medium, file, flush, require)
    }

    /// Maps a file whose medium is known already.
    ///
    /// # Errors
    /// As those of `map`.
    pub fn map_on(medium: Medium, file: OpenFile, flush: Option<Flush>, require: Option<Durability>) -> Result<Self> {
        let len = metadata(&file)?.len();
        if len > MAX_POOL_BYTES {
            return Err(Error::NotAPool("it is larger than any pool can be"));
        }
        let map_sync = accepts_map_sync(&**file);
        let flush = flush.unwrap_or_else(|| medium.flush());
        let found = durability(medium, flush);
        if let Some(required) = require.filter(|required| found < *required) {
            return Err(Error::Durability { required, found, medium, flush });
        }
        let reservation = Reservation::new(MAX_POOL_BYTES as usize)?;
        let (len_mapped, damage, unwritten, growing) =
            (AtomicU64::new(0), OnceLock::new(), OnceLock::new(), Mutex::default());
        let shows_holes = shows_holes(&file)?;
        let mapped = Self {
            file,
            reservation,
            len: len_mapped,
            map_sync,
            medium,
            flush,
            shows_holes,
            damage,
            unwritten,
            growing,
        };
        mapped.extend_mapping(len / PAGE * PAGE)?;
        Ok(mapped)
    }

    /// Gives the first `bytes` of the file the space that they lack: a pool that was copied sparsely has none where its
    /// pages are zero, and a store that finds none later would be lost.
    ///
    /// # Errors
    /// The medium has no space (`Error::Full`), or the system refused something (`Error::Io`).
    pub fn fill_holes(&mut self, bytes: u64) -> Result<()> {
        if !has_holes(&metadata(&self.file)?) || compresses(&**self.file)? {
            return Ok(());
        }
        match allocate(&self.file, 0, bytes) {
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {}
            outcome => outcome?,
        }
        self.shows_holes = shows_holes(&self.file)?;
        Ok(())
    }

    /// Maps what the file has grown by, where `end` lies behind what is mapped. Somebody else lets it grow.
    ///
    /// # Errors
    /// The system refused (`Error::Io`). Where the file ends before, nothing is mapped.
    pub fn cover(&self, end: u64) -> Result<()> {
        if end <= self.len() {
            return Ok(());
        }
        self.extend_mapping(metadata(&self.file)?.len().min(MAX_POOL_BYTES) / PAGE * PAGE)
    }

    /// What lies under the file.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// The write-back in use.
    pub fn flush(&self) -> Flush {
        self.flush
    }

    /// What a commit survives.
    pub fn durability(&self) -> Durability {
        durability(self.medium, self.flush)
    }

    fn extend_mapping(&self, to: u64) -> Result<()> {
        let _one_at_a_time = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.len();
        if to <= from {
            return Ok(());
        }
        let sync = if self.map_sync { MapFlags::SYNC } else { MapFlags::empty() };
        let flags = MapFlags::SHARED_VALIDATE | MapFlags::FIXED | sync;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: `to <= MAX_POOL_BYTES`, so the new pages replace part of our own reservation, which nothing uses yet.
        unsafe { mmap(self.at(from).cast(), (to - from) as usize, access, flags, self.file.as_fd(), from) }
            .map_err(Error::io("mapping the pool"))?;
        self.len.store(to, Ordering::Release);
        Ok(())
    }

    fn reaches(&self, end: u64) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.len() >= end)
    }

    /// Finds a cut that no access has met yet.
    fn check_uncut(&self, end: u64) -> Result<()> {
        self.check_whole()?;
        if let Some(damage) = self.cut_off(&metadata(&self.file)?, end) {
            let _ = self.damage.set(damage);
            self.reservation.note(Fault { page: 0, bad_memory: false });
        }
        self.check_whole()
    }

    /// What a cut has left of the file. When it is lengthened again, by whoever cut it or by a write of ours that had just
    /// looked, that is a hole, which reads as zeros.
    fn cut_off(&self, facts: &Metadata, end: u64) -> Option<Damage> {
        if facts.len() < end {
            return Some(Damage::Cut { file_bytes: facts.len() });
        }
        (self.shows_holes && has_holes(facts)).then_some(Damage::Hollow)
    }

    fn check_written(&self) -> Result<()> {
        let Some(&errno) = self.unwritten.get() else { return Ok(()) };
        if [Errno::NOSPC, Errno::FBIG, Errno::DQUOT].contains(&Errno::from_raw_os_error(errno)) {
            return Err(full(PAGE, free_bytes(&self.file)));
        }
        let action = "writing an extent of the pool";
        Err(Error::Io { action, source: std::io::Error::from_raw_os_error(errno) })
    }

    #[inline]
    fn at(&self, at: u64) -> *mut u8 {
        self.reservation.base().wrapping_add(at as usize)
    }

    #[inline]
    fn check(&self, at: u64, len: usize) {
        if at.checked_add(len as u64).is_none_or(|end| end > self.len()) {
            outside(at, len);
        }
    }

    /// What the first access that failed found. It stays so, whatever becomes of the file afterwards.
    #[cold]
    fn damage(&self, fault: Fault) -> Error {
        match *self.damage.get_or_init(|| self.diagnose(fault)) {
            Damage::Cut { file_bytes } => Error::cut(file_bytes),
            Damage::Hollow => Error::corrupt("part of it was cut away while it was open"),
            Damage::NoSpace { free_bytes } => full(PAGE, free_bytes),
            Damage::Unusable { bad_memory } => {
                let errno = if bad_memory { Errno::HWPOISON } else { Errno::IO };
                let action = "using the mapped pool, where a page could not be read or written";
                Error::Io { action, source: errno.into() }
            }
        }
    }

    fn diagnose(&self, fault: Fault) -> Damage {
        if fault.bad_memory {
            return Damage::Unusable { bad_memory: true };
        }
        let cut_off = self.file.metadata().ok().and_then(|facts| self.cut_off(&facts, self.len()));
        if let Some(damage @ Damage::Cut { .. }) = cut_off {
            return damage;
        }
        // A hole that found no space finds none now; for a page that has its space nothing happens here.
        match allocate(&self.file, fault.page, PAGE) {
            Err(Error::Full { free_bytes, .. }) => Damage::NoSpace { free_bytes },
            _ => cut_off.unwrap_or(Damage::Unusable { bad_memory: false }),
        }
    }
}

impl Region for MappedFile {
    #[inline]
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    #[inline]
    fn check_whole(&self) -> Result<()> {
        self.reservation.fault().map_or(Ok(()), |fault| Err(self.damage(fault)))
    }

    #[inline]
    fn load(&self, at: u64, out: &mut [u8]) {
        self.check(at, out.len());
        // SAFETY: the range is mapped (checked above) and `out` is private memory that cannot overlap the mapping.
        unsafe { ptr::copy_nonoverlapping(self.at(at), out.as_mut_ptr(), out.len()) }
    }

    #[inline]
    fn store(&self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: the range is mapped (checked above). A single word goes by one store, so that it cannot be torn.
        unsafe {
            match <[u8; 8]>::try_from(bytes) {
                Ok(word) if at.is_multiple_of(8) => ptr::write_volatile(self.at(at).cast(), u64::from_ne_bytes(word)),
                _ => ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(at), bytes.len()),
            }
        }
    }

    fn stream(&self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len());
        // Half the time of stores to the mapping, which fault once for each page (bench/file_media.py). Into a file that
        // somebody has cut such a write would put a hole; there the store finds the cut.
        if self.flush == Flush::Fdatasync && self.reaches(at + bytes.len() as u64) {
            // The next fence tells of an error.
            if let Err(error) = self.file.write_all_at(bytes, at) {
                let _ = self.unwritten.set(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
            }
            return;
        }
        // SAFETY: the range is mapped (checked above).
        unsafe { stream_copy(self.flush, self.at(at), bytes) }
    }

    fn streams(&self) -> bool {
        self.flush != Flush::Fdatasync
    }

    #[inline]
    fn copy(&self, from: u64, to: u64, len: u64) {
        self.check(from, len as usize);
        self.check(to, len as usize);
        assert!((from | to | len).is_multiple_of(LINE) && from.abs_diff(to) >= len, "{len} bytes from {from} to {to}");
        // SAFETY: both ranges are mapped, whole lines and apart (checked above).
        unsafe { copy_lines(self.flush, self.at(from), self.at(to), len as usize) }
    }

    #[inline]
    fn pwb(&self, at: u64, len: u64) {
        self.check(at, len as usize);
        // SAFETY: the range is mapped (checked above).
        unsafe { write_back(self.flush, self.at(at), len as usize) }
    }

    #[inline]
    fn thread_fence(&self) {
        // ORDER: streamed stores of this thread reach the medium before it reports that it is done. On an ordinary
        // file the committing thread's `pfence` covers the stores of all threads.
        store_fence();
    }

    fn settle(&self) -> Result<()> {
        self.check_written()?;
        self.check_whole()
    }

    #[inline]
    fn pfence(&self) -> Result<()> {
        // ORDER: all that was written back before, before all that is stored after; `sfence` orders clwb, clflushopt
        // and streamed stores of this thread, `fdatasync` every dirty page of the file.
        store_fence();
        if self.flush == Flush::Fdatasync {
            self.check_written()?;
            fdatasync(self.file.as_fd()).map_err(Error::io("writing the pool to its medium"))?;
            self.check_uncut(self.len())?;
        }
        // ORDER: asked last: a store that found no page of the file has left its note by now.
        self.check_whole()
    }

    #[inline]
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
        // Lengthening a file that somebody has cut would leave a hole in its middle. Before: so that it is not done. After:
        // somebody may have cut it in between.
        self.check_uncut(old)?;
        allocate(&self.file, old, bytes - old)?;
        self.check_uncut(bytes)?;
        fsync(self.file.as_fd()).map_err(Error::io("writing the pool's new size to its medium"))?;
        self.extend_mapping(bytes)
    }
}

impl AsFd for MappedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cold]
#[inline(never)]
fn outside(at: u64, len: usize) -> ! {
    panic!("access outside the pool: {len} bytes at {at}")
}

/// Whether the kernel maps a file with `MAP_SYNC`: it is on DAX then.
pub fn accepts_map_sync(file: impl AsFd) -> bool {
    // SAFETY: a fresh mapping at an address that the kernel chooses, unmapped at once and never accessed.
    unsafe {
        let flags = MapFlags::SHARED_VALIDATE | MapFlags::SYNC;
        match mmap(ptr::null_mut(), PAGE as usize, ProtFlags::READ, flags, file, 0) {
            Ok(probe) => munmap(probe, PAGE as usize).is_ok(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
