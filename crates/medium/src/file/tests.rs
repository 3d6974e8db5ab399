use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::ftruncate;

use std::hint::black_box;

use super::*;
use crate::scratch::Scratch;

const BYTES: u64 = 16 * PAGE;

fn open(path: &Path) -> OpenFile {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    Box::new(Arc::new(file))
}

fn mapped(path: &Path) -> MappedFile {
    let region = MappedFile::map(open(path), None, None).unwrap();
    if region.is_empty() {
        region.grow(BYTES).unwrap();
    }
    region
}

/// Runs something on each kind of write-back.
fn with_each_flush(run: impl Fn(&MappedFile)) {
    for flush in [Flush::best_instruction(), Flush::Clflush, Flush::None, Flush::Fdatasync] {
        let scratch = Scratch::new();
        let region = MappedFile::map(open(&scratch.path("file")), Some(flush), None).unwrap();
        region.grow(BYTES).unwrap();
        run(&region);
    }
}

fn is_cut(error: Result<()>, bytes: u64) -> bool {
    error.is_err_and(|error| error.to_string().contains(&format!("truncated to {bytes} bytes while it was open")))
}

fn is_hollow(error: Result<()>) -> bool {
    error.is_err_and(|error| error.to_string().contains("part of it was cut away while it was open"))
}

#[test]
fn what_was_written_in_any_way_is_in_the_file() {
    with_each_flush(|region| {
        let bytes: Vec<u8> = (0..3000_usize).map(|at| (at % 250) as u8 + 1).collect();
        region.store(100, &bytes[..77]);
        region.store(512, &bytes[8..16]);
        region.store(1027, &bytes[..8]);
        region.stream(2 * PAGE + 3, &bytes);
        region.stream(4 * PAGE, &bytes[..2048]);
        region.copy(4 * PAGE, 6 * PAGE, 2048);
        region.pwb(0, PAGE);
        region.thread_fence();
        region.psync().unwrap();
        let mut file = vec![0; BYTES as usize];
        region.file.read_exact_at(&mut file, 0).unwrap();
        let holds = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()] == *bytes;
        assert!(holds(100, &bytes[..77]) && holds(512, &bytes[8..16]) && holds(1027, &bytes[..8]));
        assert!(holds(2 * PAGE + 3, &bytes) && holds(4 * PAGE, &bytes[..2048]) && holds(6 * PAGE, &bytes[..2048]));
        let mut loaded = vec![0; BYTES as usize];
        region.load(0, &mut loaded);
        assert!(loaded == file);
    });
}

#[test]
fn an_access_outside_panics() {
    let scratch = Scratch::new();
    let region = mapped(&scratch.path("file"));
    let mut out = [0; 8];
    region.load(BYTES - 8, &mut out);
    for at in [BYTES - 7, BYTES, u64::MAX - 3] {
        let panics = |run: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
        assert!(panics(&|| region.load(at, &mut [0; 8])), "{at}");
        assert!(panics(&|| region.store(at, &[0; 8])), "{at}");
        assert!(panics(&|| region.stream(at, &[0; 8])), "{at}");
        assert!(panics(&|| region.pwb(at, 8)), "{at}");
        assert!(panics(&|| region.copy(at & !63, 0, 128)), "{at}");
        assert!(panics(&|| region.copy(0, at & !63, 128)), "{at}");
    }
    for (from, to, len) in [(8, 128, 64), (0, 136, 64), (0, 128, 63), (0, 64, 128), (64, 0, 128)] {
        let copied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| region.copy(from, to, len)));
        assert!(copied.is_err(), "{len} bytes from {from} to {to}");
    }
}

#[test]
fn any_access_behind_a_cut_is_an_error_of_the_next_check_and_fence() {
    let accesses: [&dyn Fn(&MappedFile); 6] = [
        // A black box: what nobody looks at need not be loaded.
        &|region| region.load(9 * PAGE, black_box(&mut [0; 8])),
        &|region| region.load(7 * PAGE, black_box(&mut vec![0; 4 * PAGE as usize])),
        &|region| region.store(9 * PAGE + 8, &[1; 8]),
        &|region| region.store(9 * PAGE + 3, &[1; 900]),
        &|region| region.stream(7 * PAGE + 1, &vec![1; 2 * PAGE as usize]),
        &|region| region.copy(0, 8 * PAGE, PAGE),
    ];
    for access in accesses {
        with_each_flush(|region| {
            let scratch = Scratch::new();
            let other = mapped(&scratch.path("other"));
            ftruncate(region.as_fd(), 8 * PAGE).unwrap();
            region.check_whole().unwrap();
            access(region);
            assert!(is_cut(region.check_whole(), 8 * PAGE));
            assert!(is_cut(region.pfence(), 8 * PAGE) && is_cut(region.psync(), 8 * PAGE));
            assert!(is_cut(region.grow(2 * BYTES), 8 * PAGE));
            // It stays so, although the file is whole again.
            ftruncate(region.as_fd(), BYTES).unwrap();
            assert!(is_cut(region.check_whole(), 8 * PAGE) && is_cut(region.pfence(), 8 * PAGE));
            other.psync().unwrap();
        });
    }
}

#[test]
fn a_page_that_cannot_be_written_back_is_an_error_too() {
    let scratch = Scratch::new();
    let region = mapped(&scratch.path("file"));
    ftruncate(region.as_fd(), 0).unwrap();
    region.pwb(3 * PAGE, 64);
    assert!(is_cut(region.pfence(), 0));
}

#[test]
fn threads_that_use_what_was_cut_go_on_and_each_fence_fails() {
    let scratch = Scratch::new();
    let region = mapped(&scratch.path("file"));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let region = &region;
            scope.spawn(move || {
                let mut bytes = [0; 300];
                for round in 0.. {
                    let at = (round * 577 + thread * 4099) % (BYTES - 300);
                    region.store(at, &[thread as u8; 300]);
                    region.load(at, &mut bytes);
                    if region.psync().is_err() {
                        return;
                    }
                }
            });
        }
        ftruncate(region.as_fd(), PAGE).unwrap();
    });
    assert!(is_cut(region.psync(), PAGE));
}

#[test]
fn a_file_that_is_larger_again_when_the_cut_is_found_is_an_error_all_the_same() {
    let scratch = Scratch::new();
    let region = mapped(&scratch.path("file"));
    ftruncate(region.as_fd(), PAGE).unwrap();
    region.store(2 * PAGE, &[1; 8]);
    ftruncate(region.as_fd(), BYTES).unwrap();
    assert!(is_hollow(region.psync()));
}

/// Nothing faults there: the pages of a hole are zeros.
#[test]
fn a_hole_that_a_cut_has_left_is_found_before_the_file_grows_and_by_the_fences_of_an_ordinary_file() {
    for (flush, by_fence) in [(Flush::Fdatasync, true), (Flush::Clflush, false)] {
        let scratch = Scratch::new();
        let region = MappedFile::map(open(&scratch.path("file")), Some(flush), None).unwrap();
        region.grow(BYTES).unwrap();
        region.pfence().unwrap();
        ftruncate(region.as_fd(), PAGE).unwrap();
        ftruncate(region.as_fd(), BYTES).unwrap();
        assert_eq!(is_hollow(region.pfence()), by_fence);
        assert!(is_hollow(region.grow(2 * BYTES)));
        assert!(is_hollow(region.check_whole()) && is_hollow(region.pfence()), "it stays so");
        assert_eq!(region.file.metadata().unwrap().len(), BYTES);
    }
}

#[test]
fn a_cut_that_no_access_meets_is_found_by_the_fences_of_an_ordinary_file() {
    let scratch = Scratch::new();
    let region = MappedFile::map(open(&scratch.path("file")), Some(Flush::Fdatasync), None).unwrap();
    region.grow(BYTES).unwrap();
    ftruncate(region.as_fd(), BYTES - 1).unwrap();
    assert!(is_cut(region.pfence(), BYTES - 1));
}

#[test]
fn bad_memory_is_named() {
    let scratch = Scratch::new();
    let region = mapped(&scratch.path("file"));
    region.damage.set(region.diagnose(Fault { page: PAGE, bad_memory: true })).unwrap();
    let error = region.damage(Fault { page: PAGE, bad_memory: true });
    assert!(error.to_string().contains("a page could not be read or written: "), "{error}");
    assert!(matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(libc::EHWPOISON)));
}

#[test]
fn a_medium_that_is_too_weak_is_refused_before_anything_is_touched() {
    let scratch = Scratch::new();
    let path = scratch.path("file");
    let weak = MappedFile::map(open(&path), Some(Flush::None), Some(Durability::PowerFailure)).err().unwrap();
    assert!(matches!(weak, Error::Durability { found: Durability::ProcessCrash, flush: Flush::None, .. }), "{weak}");
    assert!(weak.to_string().contains("survives a process crash, not a power failure"), "{weak}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let enough = MappedFile::map(open(&path), Some(Flush::None), Some(Durability::ProcessCrash)).unwrap();
    assert_eq!((enough.flush(), enough.durability()), (Flush::None, Durability::ProcessCrash));
    let any = MappedFile::map(open(&path), None, None).unwrap();
    assert_eq!((any.flush(), any.durability()), (any.medium().flush(), any.medium().durability()));
}

#[test]
fn holes_get_the_space_that_they_lack_as_far_as_is_asked() {
    let scratch = Scratch::new();
    let path = scratch.path("file");
    let file = open(&path);
    file.set_len(BYTES).unwrap();
    file.write_all_at(b"end", BYTES - 3).unwrap();
    let mut region = mapped(&path);
    assert!(!region.shows_holes, "it has some that are no damage");
    region.fill_holes(BYTES).unwrap();
    assert!(region.shows_holes && std::fs::metadata(&path).unwrap().blocks() * 512 >= BYTES);
    let mut found = [0; 16];
    region.load(BYTES - 16, &mut found);
    assert_eq!((region.len(), &found[13..]), (BYTES, &b"end"[..]));
}

#[test]
fn what_somebody_else_let_the_file_grow_by_is_mapped_when_it_is_needed() {
    let scratch = Scratch::new();
    let (region, other) = (mapped(&scratch.path("file")), mapped(&scratch.path("file")));
    region.cover(BYTES).unwrap();
    region.cover(BYTES + 1).unwrap();
    assert_eq!(region.len(), BYTES, "there is no more yet");
    other.grow(2 * BYTES).unwrap();
    other.store(BYTES, b"grown");
    region.cover(BYTES + 1).unwrap();
    let mut found = [0; 5];
    region.load(BYTES, &mut found);
    assert_eq!((region.len(), &found), (2 * BYTES, b"grown"));
}

/// Bulk bytes go to an ordinary file by writes, which fail without a signal.
#[test]
fn a_bulk_write_that_failed_is_an_error_of_every_later_fence() {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let file = std::fs::File::from(memfd_create("pool", MemfdFlags::ALLOW_SEALING).unwrap());
    file.set_len(BYTES).unwrap();
    let region = MappedFile::map(Box::new(Arc::new(file)), Some(Flush::Fdatasync), None).unwrap();
    region.stream(PAGE, &[1; 5000]);
    region.settle().unwrap();
    region.pfence().unwrap();
    // What is mapped already can be stored to, but nothing can be written.
    fcntl_add_seals(region.as_fd(), SealFlags::FUTURE_WRITE).unwrap();
    region.stream(3 * PAGE, &[2; 5000]);
    assert!(matches!(region.settle(), Err(Error::Io { .. })));
    assert!(matches!(region.pfence(), Err(Error::Io { .. })));
    assert!(matches!(region.psync(), Err(Error::Io { .. })));
}

#[test]
fn a_file_that_was_cut_is_not_lengthened() {
    let scratch = Scratch::new();
    let region = mapped(&scratch.path("a.pool"));
    ftruncate(region.as_fd(), 8 * PAGE).unwrap();
    assert!(is_cut(region.grow(2 * BYTES), 8 * PAGE));
    assert_eq!(region.file.metadata().unwrap().len(), 8 * PAGE);
}
