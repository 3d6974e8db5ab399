//! What lies under a pool file, and what it survives. A claim that cannot be checked is not believed.

use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, fstatfs, statx};

use crate::error::{Error, Result};
use crate::persist::Flush;

const TMPFS_MAGIC: i64 = 0x0102_1994;
/// File systems on disks whose `fdatasync` reaches the disk: ext2 to ext4, XFS, Btrfs, F2FS, ZFS, bcachefs.
const DISK_MAGICS: [i64; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The process may die; the machine must not.
    ProcessCrash,
    /// The machine may lose power.
    PowerFailure,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessCrash => "process crash",
            Self::PowerFailure => "power failure",
        })
    }
}

/// The kind of medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Persistent memory under a DAX file system, with a persistence domain that the kernel vouches for.
    Pm {
        /// The caches belong to the persistence domain (eADR): no write-back is needed.
        caches_persist: bool,
    },
    /// DAX without a known persistence domain: the instructions work, the promise is missing.
    UnprovenDax,
    /// A file in memory: the same instructions as PM, lost with the machine.
    EmulatedPm,
    /// A file on a disk file system.
    File,
    /// A file on any other file system, such as an overlay, whose disk cannot be seen from here.
    UncheckedFile,
}

impl Medium {
    /// Looks at the file behind a descriptor. `map_sync` says whether the kernel accepts `MAP_SYNC` for it.
    pub(crate) fn detect(file: impl AsFd, map_sync: bool) -> Result<Self> {
        let kind = fstatfs(file.as_fd()).map_err(Error::io("asking for the pool's file system"))?.f_type;
        if kind as i64 == TMPFS_MAGIC {
            return Ok(Self::EmulatedPm);
        }
        let facts = statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map_err(Error::io("asking for the pool's attributes"))?;
        if !map_sync || !facts.stx_attributes.contains(StatxAttributes::DAX) {
            let on_disk = DISK_MAGICS.contains(&(kind as i64));
            return Ok(if on_disk { Self::File } else { Self::UncheckedFile });
        }
        Ok(match persistence_domain(facts.stx_dev_major, facts.stx_dev_minor).as_deref() {
            Some("memory_controller") => Self::Pm { caches_persist: false },
            Some("cpu_cache") => Self::Pm { caches_persist: true },
            _ => Self::UnprovenDax,
        })
    }

    /// What a commit on this medium survives.
    pub fn durability(self) -> Durability {
        match self {
            Self::Pm { .. } | Self::File => Durability::PowerFailure,
            Self::EmulatedPm | Self::UnprovenDax | Self::UncheckedFile => Durability::ProcessCrash,
        }
    }

    /// The write-back that this medium needs.
    pub(crate) fn flush(self) -> Flush {
        match self {
            Self::Pm { caches_persist: true } => Flush::None,
            Self::Pm { caches_persist: false } | Self::EmulatedPm => Flush::best_instruction(),
            Self::UnprovenDax | Self::File | Self::UncheckedFile => Flush::Fdatasync,
        }
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pm { caches_persist: false } => "persistent memory (fsdax, flushed to the memory controller)",
            Self::Pm { caches_persist: true } => "persistent memory (fsdax, caches included)",
            Self::UnprovenDax => "DAX without a known persistence domain",
            Self::EmulatedPm => "emulated PM (tmpfs, lost with the machine)",
            Self::File => "file",
            Self::UncheckedFile => "file on a file system whose disk cannot be checked",
        })
    }
}

/// The `persistence_domain` of the NVDIMM region that holds a block device, if it is on one.
fn persistence_domain(major: u32, minor: u32) -> Option<String> {
    let device: PathBuf = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let domain = device.ancestors().find_map(|folder| fs::read_to_string(folder.join("persistence_domain")).ok())?;
    Some(domain.trim().to_owned())
}
