use std::sync::atomic::AtomicBool;

use super::*;

/// Sends this thread the signal that the kernel sends for a page of bad memory: the kernel allows that to oneself.
fn bad_memory_at(address: usize) {
    // SAFETY: `siginfo_t` is plain data; its address is the first word behind the three numbers and their padding.
    unsafe {
        let mut info: siginfo_t = mem::zeroed();
        info.si_signo = libc::SIGBUS;
        info.si_code = libc::BUS_MCEERR_AR;
        (&raw mut info).cast::<usize>().add(2).write(address);
        let (process, thread) = (libc::getpid(), libc::gettid());
        assert_eq!(libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, &info), 0);
    }
}

fn reserve() -> Reservation {
    Reservation::new(1 << 20).unwrap()
}

#[test]
fn the_first_fault_is_noted_with_its_page_for_its_reservation_alone() {
    let (one, other) = (reserve(), reserve());
    bad_memory_at(one.base() as usize + 5 * PAGE + 77);
    bad_memory_at(one.base() as usize + 9 * PAGE);
    assert_eq!(one.fault(), Some(Fault { page: 5 * PAGE as u64, bad_memory: true }));
    assert_eq!(other.fault(), None);
    // SAFETY: the page was replaced by one of zeros.
    assert_eq!(unsafe { one.base().add(5 * PAGE + 77).read_volatile() }, 0);
}

#[test]
fn the_first_and_the_last_page_belong_to_a_reservation() {
    for page in [0, (1 << 20) / PAGE - 1] {
        let reservation = reserve();
        bad_memory_at(reservation.base() as usize + page * PAGE + PAGE - 1);
        assert_eq!(reservation.fault(), Some(Fault { page: (page * PAGE) as u64, bad_memory: true }));
    }
}

#[test]
fn a_new_reservation_has_no_fault_of_an_old_one() {
    for _ in 0..2 * MAX_RESERVATIONS {
        let reservation = reserve();
        assert_eq!(reservation.fault(), None);
        bad_memory_at(reservation.base() as usize);
        assert!(reservation.fault().is_some());
    }
}

#[test]
fn a_fault_is_packed_and_unpacked() {
    assert_eq!(Fault::unpack(0), None);
    for page in [0, 4096, (1 << 40) - 4096] {
        for bad_memory in [false, true] {
            let fault = Fault { page, bad_memory };
            assert_eq!(Fault::unpack(fault.pack()), Some(fault));
        }
    }
}

#[test]
fn faults_are_noted_while_others_come_and_go() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let short_lived = [reserve(), reserve(), reserve()];
                assert!(short_lived.iter().all(|one| one.fault().is_none()), "a fault of somebody else");
            }
        });
        for round in 0..2_000 {
            let reservation = reserve();
            let page = round % 256;
            bad_memory_at(reservation.base() as usize + page * PAGE);
            assert_eq!(reservation.fault().map(|fault| fault.page), Some((page * PAGE) as u64));
        }
        done.store(true, Ordering::Relaxed);
        busy.join().unwrap();
    });
}
