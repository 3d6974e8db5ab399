//! Address space for pool files, and what happens when the medium cannot serve an access to it: the file was cut, a hole
//! finds no space, a page is bad.
//!
//! The kernel answers with SIGBUS, which ends a process that has no handler. The one here looks the address up among our
//! reservations, notes what happened, puts a page of zeros in the place, and lets the access go on with junk. Who
//! believes what was read, or that something is durable, asks `Reservation::fault` first. A fault that is not ours goes to
//! the handler that was there before. A handler that is installed later comes first, and decides.
//!
//! The handler does only what a signal handler may: atomics and system calls. A forked child has a copy of all of it.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{c_int, c_void, siginfo_t};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::error::{Error, Result};

const PAGE: usize = 4096;
/// More than an address space of 2^47 bytes has room for, at `MAX_POOL_BYTES` (2^40) each.
const MAX_RESERVATIONS: usize = 128;
/// From `linux/membarrier.h`.
const MEMBARRIER_PRIVATE_EXPEDITED: c_int = 1 << 3;
const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;

static SLOTS: [Slot; MAX_RESERVATIONS] = [const { Slot::new() }; MAX_RESERVATIONS];
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// What the handler knows of one reservation.
struct Slot {
    taken: AtomicBool,
    /// 0: not yet, or no longer, in use.
    base: AtomicUsize,
    bytes: AtomicUsize,
    /// The first fault, as `Fault::pack` writes it; 0: there was none.
    fault: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        let (base, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { taken: AtomicBool::new(false), base, bytes, fault: AtomicU64::new(0) }
    }

    /// Keeps the first fault.
    fn note(&self, fault: Fault) {
        let _ = self.fault.compare_exchange(0, fault.pack(), Ordering::SeqCst, Ordering::Relaxed);
    }

    /// How far into the reservation an address lies.
    fn offset_of(&self, address: usize) -> Option<usize> {
        // ORDER: the length is stored before the base.
        let base = self.base.load(Ordering::Acquire);
        let offset = address.checked_sub(base).filter(|_| base != 0)?;
        (offset < self.bytes.load(Ordering::Relaxed)).then_some(offset)
    }
}

/// An access that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the page begins, counted from the start of the reservation.
    pub page: u64,
    /// The memory itself is bad, not the file.
    pub bad_memory: bool,
}

impl Fault {
    fn pack(self) -> u64 {
        self.page | 2 | u64::from(self.bad_memory)
    }

    fn unpack(word: u64) -> Option<Self> {
        (word != 0).then_some(Self { page: word & !(PAGE as u64 - 1), bad_memory: word & 1 == 1 })
    }
}

/// Address space that belongs to one pool, without access rights until something is mapped over it.
pub struct Reservation {
    slot: &'static Slot,
    base: *mut u8,
    bytes: usize,
}

impl Reservation {
    /// Reserves address space, which costs nothing until it is used.
    ///
    /// # Errors
    /// There is no more (`Error::Io`).
    pub fn new(bytes: usize) -> Result<Self> {
        install()?;
        // SAFETY: a fresh anonymous mapping at an address that the kernel chooses.
        let base = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), flags)
        };
        let base = base.map_err(Error::io("reserving address space for the pool (is `ulimit -v` set?)"))?;
        let Some(slot) = SLOTS.iter().find(|slot| !slot.taken.swap(true, Ordering::Acquire)) else {
            // SAFETY: our own mapping, which nobody has seen.
            let _ = unsafe { munmap(base, bytes) };
            return Err(Error::Misuse(format!("this process has {MAX_RESERVATIONS} pools open; close some")));
        };
        slot.fault.store(0, Ordering::Relaxed);
        slot.bytes.store(bytes, Ordering::Relaxed);
        // ORDER: the handler sees the slot only when it is filled.
        slot.base.store(base as usize, Ordering::Release);
        Ok(Self { slot, base: base.cast(), bytes })
    }

    /// Its first byte.
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// The first access that failed.
    #[inline]
    pub fn fault(&self) -> Option<Fault> {
        // ORDER: what this thread did before is done when the note is read: the handler sees to that (`replace`).
        Fault::unpack(self.slot.fault.load(Ordering::Acquire))
    }

    /// Notes a fault that was found without an access, unless there is one already.
    pub fn note(&self, fault: Fault) {
        self.slot.note(fault);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // ORDER: out of the list before the addresses can belong to somebody else. Nobody faults here any more, since
        // every access borrows the reservation; who faults in another one only passes by.
        self.slot.base.store(0, Ordering::Release);
        // SAFETY: this is our own reservation, whole; no pointer into it outlives the struct.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
        self.slot.taken.store(false, Ordering::Release);
    }
}

/// Installs the handler, once.
fn install() -> Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // SAFETY: `sigaction` is plain data, for which zeros are valid; `on_sigbus` is a handler of the SA_SIGINFO kind, and
    // what it needs, PREVIOUS, is there before it.
    *installed = unsafe {
        libc::syscall(libc::SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0);
        let mut previous: libc::sigaction = mem::zeroed();
        let known = libc::sigaction(libc::SIGBUS, ptr::null(), &mut previous) == 0;
        let mut ours: libc::sigaction = mem::zeroed();
        ours.sa_sigaction = on_sigbus as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let _ = PREVIOUS.set(previous);
        known && libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) == 0
    };
    if *installed {
        return Ok(());
    }
    let source = std::io::Error::last_os_error();
    Err(Error::Io { action: "preparing for accesses to the pool that fail", source })
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `info`, and `errno` is this thread's own; the interrupted code finds it unchanged.
    unsafe {
        let errno = *libc::__errno_location();
        if !replace(&*info) {
            chain(signal, info, context);
        }
        *libc::__errno_location() = errno;
    }
}

/// Notes a fault in a reservation of ours and puts a page of zeros in its place; `false`: it is not ours.
unsafe fn replace(info: &siginfo_t) -> bool {
    // A signal that a process sent has another code, and no address.
    if ![libc::BUS_ADRERR, libc::BUS_MCEERR_AR, libc::BUS_MCEERR_AO].contains(&info.si_code) {
        return false;
    }
    // SAFETY: these codes come with an address.
    let address = unsafe { info.si_addr() } as usize;
    let Some((slot, offset)) = SLOTS.iter().find_map(|slot| slot.offset_of(address).map(|offset| (slot, offset)))
    else {
        return false;
    };
    let fault = Fault { page: (offset & !(PAGE - 1)) as u64, bad_memory: info.si_code != libc::BUS_ADRERR };
    slot.note(fault);
    let page = address & !(PAGE - 1);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page belongs to a reservation of ours, in which somebody is just faulting, and which is so still there.
    // One small page does, also in a large one: the kernel splits it, and the rest faults for itself if it must.
    unsafe {
        // ORDER: the note reaches every thread before the page can take a store of theirs. A thread whose store was
        // lost in the page so finds the note at its next fence, although it did not fault itself.
        libc::syscall(libc::SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0);
        libc::syscall(libc::SYS_mmap, page, PAGE, access, flags, -1, 0) == page as libc::c_long
    }
}

/// Does what would have happened without us.
unsafe fn chain(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(previous) = PREVIOUS.get() else { return };
    // SAFETY: a handler was installed with this type, as its flags say; `info` is the kernel's.
    unsafe {
        let sent = (*info).si_code <= 0 || (*info).si_code == libc::BUS_MCEERR_AO;
        match previous.sa_sigaction {
            libc::SIG_IGN if sent => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default: libc::sigaction = mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, ptr::null_mut());
                // Nothing is repeated after a signal that was sent; one that is raised here strikes at the return.
                if sent {
                    libc::raise(signal);
                }
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler)(
                    signal, info, context,
                );
            }
            handler => mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal),
        }
    }
}

#[cfg(test)]
mod tests;
