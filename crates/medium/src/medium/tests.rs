use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::scratch::Scratch;

const EXT4: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
const OVERLAY: i64 = 0x794c_7630;
const NFS: i64 = 0x6969;

fn facts(file_system: i64, map_sync: bool, dax: bool, domain: Option<&str>) -> Facts {
    Facts { file_system, map_sync, dax, persistence_domain: domain.map(str::to_owned), volatile: false }
}

#[test]
fn each_medium_is_known_by_its_facts() {
    let flushed = Medium::judge(&facts(XFS, true, true, Some("memory_controller")));
    assert_eq!(flushed, Medium::Pm { caches_persist: false });
    assert_eq!((flushed.flush(), flushed.durability()), (Flush::best_instruction(), Durability::PowerFailure));
    let eadr = Medium::judge(&facts(EXT4, true, true, Some("cpu_cache")));
    assert_eq!(eadr, Medium::Pm { caches_persist: true });
    assert_eq!((eadr.flush(), eadr.durability()), (Flush::None, Durability::PowerFailure));
    let memory = Medium::judge(&facts(TMPFS, false, false, None));
    assert_eq!(memory, Medium::EmulatedPm);
    assert_eq!((memory.flush(), memory.durability()), (Flush::best_instruction(), Durability::ProcessCrash));
    for file_system in [EXT4, XFS, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e] {
        let file = Medium::judge(&facts(file_system, false, false, None));
        assert_eq!(file, Medium::File);
        assert_eq!((file.flush(), file.durability()), (Flush::Fdatasync, Durability::PowerFailure));
    }
    for file_system in [OVERLAY, NFS, 0] {
        let file = Medium::judge(&facts(file_system, false, false, None));
        assert_eq!(file, Medium::UncheckedFile);
        assert_eq!((file.flush(), file.durability()), (Flush::Fdatasync, Durability::ProcessCrash));
    }
}

/// Each of these looks like persistent memory in some way.
#[test]
fn what_only_looks_like_persistent_memory_is_not_believed() {
    let raw_namespace = facts(EXT4, false, false, Some("memory_controller"));
    assert_eq!(Medium::judge(&raw_namespace), Medium::File);
    let virtio = facts(EXT4, false, true, Some("memory_controller"));
    assert_eq!(Medium::judge(&virtio), Medium::File);
    let map_sync_alone = facts(EXT4, true, false, Some("cpu_cache"));
    assert_eq!(Medium::judge(&map_sync_alone), Medium::File);
    let tmpfs = facts(TMPFS, true, true, Some("cpu_cache"));
    assert_eq!(Medium::judge(&tmpfs), Medium::EmulatedPm);
    for domain in [None, Some(""), Some("unknown"), Some("Memory_Controller"), Some("memory_controller cpu_cache")] {
        let memmap = Medium::judge(&facts(XFS, true, true, domain));
        assert_eq!(memmap, Medium::UnprovenDax, "{domain:?}");
        assert_eq!((memmap.flush(), memmap.durability()), (Flush::Fdatasync, Durability::ProcessCrash));
    }
}

#[test]
fn durability_follows_from_medium_and_write_back() {
    use Durability::{PowerFailure, ProcessCrash};
    let instructions = [Flush::Clwb, Flush::ClflushOpt, Flush::Clflush];
    for flush in instructions {
        assert_eq!(durability(Medium::Pm { caches_persist: false }, flush), PowerFailure);
        assert_eq!(durability(Medium::Pm { caches_persist: true }, flush), PowerFailure);
        assert_eq!(durability(Medium::File, flush), ProcessCrash);
    }
    assert_eq!(durability(Medium::Pm { caches_persist: false }, Flush::None), ProcessCrash);
    assert_eq!(durability(Medium::Pm { caches_persist: true }, Flush::None), PowerFailure);
    assert_eq!(durability(Medium::File, Flush::None), ProcessCrash);
    assert_eq!(durability(Medium::File, Flush::Fdatasync), PowerFailure);
    for flush in instructions.into_iter().chain([Flush::None, Flush::Fdatasync]) {
        for medium in [Medium::EmulatedPm, Medium::UnprovenDax, Medium::UncheckedFile] {
            assert_eq!(durability(medium, flush), ProcessCrash);
        }
    }
    assert!(PowerFailure > ProcessCrash);
}

#[test]
fn a_durability_is_read_as_it_is_written() {
    for one in [Durability::ProcessCrash, Durability::PowerFailure] {
        assert_eq!(Durability::parse(&one.to_string()).unwrap(), one);
    }
    for words in ["", "power", "Power failure", "power_failure"] {
        assert!(matches!(Durability::parse(words), Err(Error::Misuse(_))), "{words}");
    }
}

/// A tree as sysfs has it: a partition on a namespace of an NVDIMM region, with links.
struct Sysfs {
    scratch: Scratch,
}

impl Sysfs {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("sys/dev/block")).unwrap();
        Self { scratch }
    }

    fn root(&self) -> PathBuf {
        self.scratch.path("sys")
    }

    /// Puts a device at a place in the tree and links its number to it.
    fn device(&self, number: &str, place: &str) {
        fs::create_dir_all(self.root().join("devices").join(place)).unwrap();
        symlink(format!("../../devices/{place}"), self.root().join("dev/block").join(number)).unwrap();
    }

    fn domain(&self, folder: &str, text: &str) {
        fs::create_dir_all(self.root().join("devices").join(folder)).unwrap();
        fs::write(self.root().join("devices").join(folder).join("persistence_domain"), text).unwrap();
    }

    fn of(&self, number: &str) -> Option<String> {
        persistence_domain(&device_folder(&self.root(), number).ok()??)
    }
}

#[test]
fn the_domain_is_that_of_the_region_that_holds_the_device() {
    let sysfs = Sysfs::new();
    sysfs.device("259:0", "ndbus0/region0/namespace0.0/block/pmem0");
    sysfs.device("259:1", "ndbus0/region0/namespace0.0/block/pmem0/pmem0p1");
    sysfs.device("259:2", "ndbus0/region11/btt11.0/block/pmem11s");
    sysfs.domain("ndbus0/region0", "memory_controller\n");
    sysfs.domain("ndbus0/region11", "cpu_cache");
    assert_eq!(sysfs.of("259:0").as_deref(), Some("memory_controller"));
    assert_eq!(sysfs.of("259:1").as_deref(), Some("memory_controller"));
    assert_eq!(sysfs.of("259:2").as_deref(), Some("cpu_cache"));
    assert_eq!(sysfs.of("259:3"), None);
}

#[test]
fn a_device_that_is_on_no_region_has_no_domain() {
    let sysfs = Sysfs::new();
    sysfs.device("8:0", "pci0000:00/ata1/block/sda");
    sysfs.domain("pci0000:00", "memory_controller");
    assert_eq!(sysfs.of("8:0"), None);
    sysfs.device("8:1", "region/regional0/block/sdb");
    sysfs.domain("region", "memory_controller");
    sysfs.domain("region/regional0", "memory_controller");
    assert_eq!(sysfs.of("8:1"), None);
    sysfs.device("259:0", "ndbus0/region0/namespace0.0/block/pmem0");
    assert_eq!(sysfs.of("259:0"), None, "a region of memmap= has no such file");
}

/// `memmap=` without `-o dax` looks like any disk otherwise.
#[test]
fn ordinary_memory_that_looks_like_a_disk_is_not_believed() {
    let sysfs = Sysfs::new();
    let places = [
        ("259:0", "platform/e820_pmem/ndbus0/region0/namespace0.0/block/pmem0", true),
        ("1:0", "virtual/block/ram0", true),
        ("252:0", "virtual/block/zram12", true),
        ("8:0", "pci0000:00/ata1/block/sda", false),
        ("8:1", "ram/frames/block/sdb", false),
        ("259:1", "ndbus0/region0/namespace0.0/block/pmem0", false),
    ];
    for (number, place, volatile) in places {
        sysfs.device(number, place);
        assert_eq!(is_volatile(&device_folder(&sysfs.root(), number).unwrap().unwrap()), volatile, "{place}");
        let on_ext4 = Facts { volatile, ..facts(0xef53, false, false, None) };
        let expected = if volatile { Medium::UncheckedFile } else { Medium::File };
        assert_eq!(Medium::judge(&on_ext4), expected, "{place}");
    }
}

/// A process in a sandbox may not look, and a tree that cannot be walked tells nothing.
#[test]
fn a_device_that_nobody_may_look_at_is_not_believed() {
    let scratch = Scratch::new();
    let no_folder = scratch.path("sys");
    fs::write(&no_folder, "").unwrap();
    let file = fs::File::open(&no_folder).unwrap();
    assert!(device_folder(&no_folder, "8:0").is_err());
    assert!(Facts::of(&file, false, &no_folder).unwrap().volatile);
    assert!(!Facts::of(&file, false, &scratch.path("missing")).unwrap().volatile);
}

#[test]
fn a_known_medium_is_that_of_its_file() {
    let scratch = Scratch::new();
    let [one, other] = ["one", "other"].map(|name| fs::File::create(scratch.path(name)).unwrap());
    let known = KnownMedium::look(&one).unwrap();
    assert_eq!(known.of(&one).unwrap(), Medium::detect(&one, accepts_map_sync(&one)).unwrap());
    assert!(matches!(known.of(&other), Err(Error::Misuse(_))));
}

#[test]
fn links_are_followed_and_lead_nowhere_else() {
    let sysfs = Sysfs::new();
    sysfs.device("259:0", "ndbus0/region0/block/pmem0");
    sysfs.domain("ndbus0/region0", "cpu_cache");
    let link = sysfs.scratch.path("link");
    symlink(sysfs.root(), &link).unwrap();
    assert_eq!(persistence_domain(&device_folder(&link, "259:0").unwrap().unwrap()).as_deref(), Some("cpu_cache"));
    let outside = sysfs.scratch.path("region7/block");
    fs::create_dir_all(&outside).unwrap();
    fs::write(sysfs.scratch.path("region7/persistence_domain"), "cpu_cache").unwrap();
    symlink(&outside, sysfs.root().join("dev/block/259:7")).unwrap();
    assert_eq!(sysfs.of("259:7"), None);
    symlink("259:9", sysfs.root().join("dev/block/259:9")).unwrap();
    assert_eq!(sysfs.of("259:9"), None, "a link to itself");
}

#[test]
fn the_facts_of_a_file_come_from_its_descriptor() {
    let sysfs = Sysfs::new();
    let path = sysfs.scratch.path("file");
    let file = fs::File::create(&path).unwrap();
    let device = std::os::unix::fs::MetadataExt::dev(&file.metadata().unwrap());
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    sysfs.device(&number, "ndbus0/region3/block/pmem3");
    sysfs.domain("ndbus0/region3", "memory_controller\n");
    let found = Facts::of(&file, true, &sysfs.root()).unwrap();
    let kind = fstatfs(&file).unwrap().f_type as i64;
    // Whether it is on DAX is what the file system says of this one.
    assert_eq!(found, facts(kind, true, found.dax, Some("memory_controller")));
}
