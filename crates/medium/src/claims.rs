//! Claims of processes on a pool's file: POSIX record locks, which go with their process.
//!
//! Two ranges far behind each other, so that one process has the pool while another one, which it trusts to write where it
//! is told to, maps the file and stores bulk bytes. Who wants to have the pool waits for both: that process may live for
//! a moment longer than the one that told it where to.

use std::os::fd::{AsFd, AsRawFd};

use libc::{F_GETLK, F_SETLK, F_UNLCK, F_WRLCK, SEEK_SET, c_int, c_short, flock, off_t};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The pool: what is in it and where.
    Pool,
    /// Stores into extents.
    Stores,
}

impl Claim {
    /// No file is as long, so that the ranges are apart whatever is locked.
    const APART: off_t = 1 << 62;

    /// Claims it for this process, which may have done so before.
    ///
    /// # Errors
    /// Another process has it (`Error::Busy`), or the file system knows no locks (`Error::Io`).
    pub fn take(self, file: impl AsFd) -> Result<()> {
        match self.call(file.as_fd(), F_SETLK, F_WRLCK) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::ACCESS) => self.refuse_holder(file).and(Err(busy("another process".into()))),
            Err(errno) => Err(Error::io("locking the pool")(errno)),
        }
    }

    /// Lets go of it.
    pub fn release(self, file: impl AsFd) {
        // Nothing can be done about a failure; it goes with the process.
        let _ = self.call(file, F_SETLK, F_UNLCK);
    }

    /// Makes sure that no other process has it.
    ///
    /// # Errors
    /// One has (`Error::Busy`), or the file system knows no locks (`Error::Io`).
    pub fn refuse_holder(self, file: impl AsFd) -> Result<()> {
        match self.call(file, F_GETLK, F_WRLCK).map_err(Error::io("asking for the pool's locks"))? {
            flock { l_type, .. } if l_type == F_UNLCK as c_short => Ok(()),
            // Ids mean nothing across containers.
            flock { l_pid: 0, .. } => Err(busy("a process of another container".into())),
            flock { l_pid, .. } => Err(busy(format!("process {l_pid}"))),
        }
    }

    fn call(self, file: impl AsFd, command: c_int, kind: c_int) -> std::result::Result<flock, Errno> {
        let (l_start, l_len) = match self {
            Self::Pool => (0, Self::APART),
            Self::Stores => (Self::APART, 1),
        };
        let mut lock = flock { l_type: kind as c_short, l_whence: SEEK_SET as c_short, l_start, l_len, l_pid: 0 };
        // SAFETY: an open descriptor, and a structure of the type that these commands read and write.
        match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) } {
            -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
            _ => Ok(lock),
        }
    }
}

fn busy(holder: String) -> Error {
    Error::Busy { holder }
}
