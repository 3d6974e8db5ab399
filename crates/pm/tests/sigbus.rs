//! A bus error that has nothing to do with a pool goes where it went before there was one.

mod again;
#[path = "../../medium/tests/scratch/mod.rs"]
mod scratch;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;

use plinius_pm::{Options, Pool};
use scratch::Scratch;

const OPTIONS: Options = Options { max_bytes: None, heap_bytes: 4096, pool_id: [7; 16], flush: None, require: None };

/// Opens a pool, so that the handler is there, and then faults in a mapping that is none of ours.
fn fault_elsewhere() -> ! {
    let place = again::place();
    let _pool = Pool::open(&place.join("a.pool"), OPTIONS).unwrap();
    let file = File::options().read(true).write(true).create(true).truncate(true).open(place.join("other")).unwrap();
    // SAFETY: a mapping of an empty file; the store to it must fault.
    unsafe {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let page = mmap(std::ptr::null_mut(), 4096, ProtFlags::WRITE, MapFlags::SHARED, &file, 0).unwrap();
        page.cast::<u8>().write_volatile(1);
    }
    unreachable!("the store went through");
}

fn handle_bus(action: usize, flags: i32) {
    // SAFETY: the callers pass handlers of the kind that the flags say.
    unsafe {
        let mut chosen: libc::sigaction = std::mem::zeroed();
        chosen.sa_sigaction = action;
        chosen.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGBUS, &chosen, std::ptr::null_mut()), 0);
    }
}

extern "C" fn exit_with_41(_: i32) {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(41) }
}

extern "C" fn exit_with_42(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's; ends the process at once.
    unsafe { libc::_exit(if (*info).si_code == libc::BUS_ADRERR && !(*info).si_addr().is_null() { 42 } else { 1 }) }
}

#[test]
#[ignore = "runs in a process of its own"]
fn faults_elsewhere_by_default() {
    handle_bus(libc::SIG_DFL, 0);
    fault_elsewhere();
}

#[test]
#[ignore = "runs in a process of its own"]
fn faults_elsewhere_ignored() {
    handle_bus(libc::SIG_IGN, 0);
    fault_elsewhere();
}

#[test]
#[ignore = "runs in a process of its own"]
fn faults_elsewhere_with_a_simple_handler() {
    handle_bus(exit_with_41 as *const () as usize, 0);
    fault_elsewhere();
}

#[test]
#[ignore = "runs in a process of its own"]
fn faults_elsewhere_with_a_full_handler() {
    handle_bus(exit_with_42 as *const () as usize, libc::SA_SIGINFO);
    fault_elsewhere();
}

#[test]
#[ignore = "runs in a process of its own"]
fn is_sent_a_signal_by_default() {
    handle_bus(libc::SIG_DFL, 0);
    let _pool = Pool::open(&again::place().join("a.pool"), OPTIONS).unwrap();
    // SAFETY: a signal to this very thread.
    unsafe { libc::raise(libc::SIGBUS) };
    unreachable!("it lives");
}

#[test]
#[ignore = "runs in a process of its own"]
fn is_sent_a_signal_ignored() {
    handle_bus(libc::SIG_IGN, 0);
    let _pool = Pool::open(&again::place().join("a.pool"), OPTIONS).unwrap();
    // SAFETY: a signal to this very thread.
    unsafe { libc::raise(libc::SIGBUS) };
}

/// A signal that a process sent may carry anything where the kernel puts an address.
#[test]
#[ignore = "runs in a process of its own"]
fn is_sent_an_address_of_the_pool() {
    handle_bus(exit_with_41 as *const () as usize, 0);
    let path = again::place().join("a.pool");
    let _pool = Pool::open(&path, OPTIONS).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("a.pool")).unwrap();
    let address = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    // SAFETY: `siginfo_t` is plain data; the address is the first word behind the three numbers and their padding.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        info.si_code = libc::SI_QUEUE;
        (&raw mut info).cast::<usize>().add(2).write(address);
        let (process, thread) = (libc::getpid(), libc::gettid());
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, &info);
    }
    unreachable!("it was taken for a fault of the pool");
}

#[test]
fn a_fault_that_is_not_ours_goes_where_it_went_before() {
    let status = |name| {
        let scratch = Scratch::new();
        again::command(name, scratch.path("")).output().unwrap().status
    };
    assert_eq!(status("faults_elsewhere_by_default").signal(), Some(libc::SIGBUS));
    assert_eq!(status("faults_elsewhere_ignored").signal(), Some(libc::SIGBUS));
    assert_eq!(status("faults_elsewhere_with_a_simple_handler").code(), Some(41));
    assert_eq!(status("faults_elsewhere_with_a_full_handler").code(), Some(42));
    assert_eq!(status("is_sent_a_signal_by_default").signal(), Some(libc::SIGBUS));
    assert_eq!(status("is_sent_an_address_of_the_pool").code(), Some(41));
    assert!(status("is_sent_a_signal_ignored").success());
}
