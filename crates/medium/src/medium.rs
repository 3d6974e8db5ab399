//! What lies under a pool file, and what it survives. A claim that cannot be checked is not believed.
//!
//! `Facts` is what the kernel says, `Medium::judge` what follows from it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, fstat, fstatfs, statx};

use crate::error::{Error, Result};
use crate::file::accepts_map_sync;
use crate::persist::Flush;

const TMPFS: i64 = 0x0102_1994;
/// File systems whose `fdatasync` reaches the disk: ext2 to ext4, XFS, F2FS.
const ON_DISK: [i64; 3] = [0xef53, 0x5846_5342, 0xf2f5_2010];
/// The same, but a file without holes may have fewer blocks than bytes: Btrfs, ZFS, bcachefs.
const COMPRESSING: [i64; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];
const SYSFS: &str = "/sys";

/// What a commit survives; the more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The process may die; the machine must not.
    ProcessCrash,
    /// The machine may lose power.
    PowerFailure,
}

impl Durability {
    /// Reads the words of a user, those that `Display` writes.
    ///
    /// # Errors
    /// Other words (`Error::Misuse`).
    pub fn parse(words: &str) -> Result<Self> {
        let known = [Self::ProcessCrash, Self::PowerFailure].into_iter().find(|one| one.to_string() == words);
        known.ok_or_else(|| {
            Error::Misuse(format!("require={words:?} is not known; use \"process crash\" or \"power failure\""))
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessCrash => "process crash",
            Self::PowerFailure => "power failure",
        })
    }
}

/// What the kernel says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The magic number of its file system.
    pub(crate) file_system: i64,
    /// `mmap` accepts `MAP_SYNC`.
    pub(crate) map_sync: bool,
    /// `statx` says that the file is on DAX.
    pub(crate) dax: bool,
    /// The `persistence_domain` of the NVDIMM region that holds its block device, if it is on one.
    pub(crate) persistence_domain: Option<String>,
    /// Its block device is ordinary memory: `memmap=`, a RAM disk, zram. Or nobody may look what it is.
    pub(crate) volatile: bool,
}

impl Facts {
    /// Asks the kernel; `sysfs` is where it is mounted.
    pub(crate) fn of(file: impl AsFd, map_sync: bool, sysfs: &Path) -> Result<Self> {
        let file_system = file_system(file.as_fd())?;
        let facts = statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map_err(Error::io("asking for the pool's attributes"))?;
        let device = device_folder(sysfs, &format!("{}:{}", facts.stx_dev_major, facts.stx_dev_minor));
        let unseen = device.is_err();
        let device = device.unwrap_or_default();
        Ok(Self {
            file_system,
            map_sync,
            dax: facts.stx_attributes.contains(StatxAttributes::DAX),
            persistence_domain: device.iter().find_map(|device| persistence_domain(device)),
            volatile: unseen || device.is_some_and(|device| is_volatile(&device)),
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
    pub fn detect(file: impl AsFd, map_sync: bool) -> Result<Self> {
        Ok(Self::judge(&Facts::of(file, map_sync, Path::new(SYSFS))?))
    }

    /// What follows from the facts.
    pub(crate) fn judge(facts: &Facts) -> Self {
        if facts.file_system == TMPFS {
            return Self::EmulatedPm;
        }
        if !facts.map_sync || !facts.dax {
            let on_disk =
                !facts.volatile && (ON_DISK.contains(&facts.file_system) || COMPRESSING.contains(&facts.file_system));
            return if on_disk { Self::File } else { Self::UncheckedFile };
        }
        match facts.persistence_domain.as_deref() {
            Some("memory_controller") => Self::Pm { caches_persist: false },
            Some("cpu_cache") => Self::Pm { caches_persist: true },
            _ => Self::UnprovenDax,
        }
    }

    /// What a commit on this medium survives, with the write-back that it needs.
    pub fn durability(self) -> Durability {
        durability(self, self.flush())
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

/// What was found to lie under one file.
#[derive(Clone, Copy, Debug)]
pub struct KnownMedium {
    medium: Medium,
    file: (u64, u64),
}

impl KnownMedium {
    /// Looks at the file behind a descriptor.
    pub fn look(file: impl AsFd) -> Result<Self> {
        let file = file.as_fd();
        Ok(Self { medium: Medium::detect(file, accepts_map_sync(file))?, file: identity(file)? })
    }

    /// The medium, if it was this file's.
    ///
    /// # Errors
    /// It was another file's (`Error::Misuse`).
    pub fn of(&self, file: impl AsFd) -> Result<Medium> {
        if identity(file)? != self.file {
            return Err(Error::Misuse("this is the medium of another file".into()));
        }
        Ok(self.medium)
    }
}

fn identity(file: impl AsFd) -> Result<(u64, u64)> {
    let facts = fstat(file).map_err(Error::io("looking at the pool"))?;
    Ok((facts.st_dev, facts.st_ino))
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

/// What a commit survives on a medium when stores are written back like this.
pub(crate) fn durability(medium: Medium, flush: Flush) -> Durability {
    let enough = match medium {
        Medium::Pm { caches_persist } => caches_persist || flush != Flush::None,
        Medium::File => flush == Flush::Fdatasync,
        Medium::EmulatedPm | Medium::UnprovenDax | Medium::UncheckedFile => false,
    };
    if enough { Durability::PowerFailure } else { Durability::ProcessCrash }
}

/// Whether a file without holes may have fewer blocks than bytes.
pub(crate) fn compresses(file: impl AsFd) -> Result<bool> {
    Ok(COMPRESSING.contains(&file_system(file)?))
}

/// Whether the count of a file's blocks is known to tell of its holes. What a network file system says need not be true.
pub(crate) fn counts_blocks(file: impl AsFd) -> Result<bool> {
    let file_system = file_system(file)?;
    Ok(file_system == TMPFS || ON_DISK.contains(&file_system))
}

fn file_system(file: impl AsFd) -> Result<i64> {
    Ok(fstatfs(file).map_err(Error::io("asking for the pool's file system"))?.f_type as i64)
}

/// A block device in the tree of devices, and all folders above it; `None`: it is not there.
fn device_folder(sysfs: &Path, device: &str) -> io::Result<Option<Vec<PathBuf>>> {
    let find = || -> io::Result<Vec<PathBuf>> {
        let root = fs::canonicalize(sysfs)?;
        let folder = fs::canonicalize(root.join("dev/block").join(device))?;
        Ok(folder.ancestors().take_while(|folder| folder.starts_with(&root)).map(Path::to_owned).collect())
    };
    match find() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Whether a device is lost with the machine, as far as its name tells.
fn is_volatile(device: &[PathBuf]) -> bool {
    let names = device.iter().filter_map(|folder| folder.file_name()?.to_str());
    names.into_iter().any(|name| {
        let disk = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        disk == "e820_pmem" || (disk != name && ["ram", "zram"].contains(&disk))
    })
}

/// What the NVDIMM region says that holds a block device: a folder `regionN` above it.
fn persistence_domain(device: &[PathBuf]) -> Option<String> {
    let region = device.iter().find(|folder| is_region(folder))?;
    let domain = fs::read_to_string(region.join("persistence_domain")).ok()?;
    Some(domain.trim().to_owned())
}

fn is_region(folder: &Path) -> bool {
    let number = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("region"));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests;
