use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;

fn secret() -> Secret<32> {
    let mut secret = Secret::new();
    secret.bytes_mut().copy_from_slice(b"a secret that is thirty-two long");
    secret
}

/// What the kernel says of the mapping that a secret lies in.
fn flags(address: usize) -> String {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let start = maps.find(&format!("{address:x}-")).expect("its mapping");
    let flags = maps[start..].lines().find(|line| line.starts_with("VmFlags:")).unwrap();
    flags.to_owned()
}

#[test]
fn each_kind_is_out_of_core_dumps_and_the_better_ones_are_locked() {
    for custody in Custody::BEST_FIRST {
        let Some(page) = Page::new(custody) else { continue };
        let flags = flags(page.as_ref().as_ptr() as usize);
        assert!(flags.contains(" dd"), "{custody:?}: {flags}");
        assert_eq!(flags.contains(" lo"), custody > Custody::Plain, "{custody:?}: {flags}");
        assert_eq!(page.as_ref(), &[0; page::BYTES]);
    }
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{:?}", secret()), "Secret");
}

#[test]
fn the_kernel_itself_does_not_read_the_best_kind_for_anybody() {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open("/proc/self/mem").unwrap();
    let secret = secret();
    let mut seen = [0; 32];
    let read = memory.read_exact_at(&mut seen, secret.as_ptr() as u64);
    assert_eq!(read.is_ok(), secret.custody() != Custody::MemfdSecret);
    assert_eq!(read.is_ok(), seen == *secret);
}

/// Runs in a forked child, whose exit status it is.
fn in_a_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child of a test calls nothing but `work` and leaves at once.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(i32::from(!work())),
            child => {
                let mut status = 1;
                libc::waitpid(child, &mut status, 0) == child && status == 0
            }
        }
    }
}

#[test]
fn a_child_reads_its_parents_secret_and_cannot_spoil_it() {
    let secret = secret();
    let expected = *secret;
    let inherited = std::mem::ManuallyDrop::new(secret);
    assert!(in_a_child(|| {
        let read = **inherited == expected;
        // SAFETY: the child's own value, which is not used again there.
        drop(unsafe { std::ptr::read(&*inherited) });
        read
    }));
    assert_eq!(**inherited, expected);
    drop(std::mem::ManuallyDrop::into_inner(inherited));
}

#[test]
fn without_lockable_memory_a_secret_is_kept_plain() {
    let limit = Rlimit { current: Some(0), maximum: Some(0) };
    assert!(in_a_child(|| {
        // Root may lock without limit.
        drop_privileges();
        setrlimit(Resource::Memlock, limit).is_ok() && secret().custody() == Custody::Plain
    }));
}

fn drop_privileges() {
    // SAFETY: changes this process alone, a child that ends soon; `setuid` is the raw call, as there is one thread.
    unsafe {
        libc::syscall(libc::SYS_setuid, 65534);
    }
}

/// Seen by a child, which has the same page.
#[test]
fn a_secret_is_wiped_when_it_is_dropped() {
    let secret = secret();
    if secret.custody() != Custody::MemfdSecret {
        return;
    }
    let (mut told, mut tell) = std::io::pipe().unwrap();
    let inherited = std::mem::ManuallyDrop::new(secret);
    // SAFETY: the child calls nothing that needs another thread, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = std::io::Read::read_exact(&mut told, &mut [0]);
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(**inherited != [0; 32])) };
    }
    drop(std::mem::ManuallyDrop::into_inner(inherited));
    std::io::Write::write_all(&mut tell, &[1]).unwrap();
    let mut status = 1;
    // SAFETY: our own child.
    assert_eq!((unsafe { libc::waitpid(child, &mut status, 0) }, status), (child, 0));
}
