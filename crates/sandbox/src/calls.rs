//! The system calls that are left. A list of what is allowed, since a list of what is forbidden is out of date with the next
//! kernel: what nobody thought of is refused, and so are the calls of the x32 ABI (other numbers) and of 32-bit programs
//! (the filter ends a process that makes one).
//!
//! A refused call gets EPERM and is no death sentence: libraries try what they do not need, and go on without.

use libc::c_long;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::{Error, compile};

const SELF: u64 = 0;

/// Whatever their arguments are.
const FREE: &[c_long] = &[
    // What is open already: the channels, the pool, the data. Nothing here takes a name.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate, // the key's own memory (memfd_secret) gets its length by it
    libc::SYS_flock,     // whoever uses the job's place in a TPM
    libc::SYS_dup,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    // Memory. `mprotect` may make it executable: oneDNN compiles its kernels for each new shape while it trains.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_memfd_secret,
    // Threads of this process.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals that it receives.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time, random bytes, and who it is.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_time,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Of one descriptor: locks and flags, but not `F_SETOWN`, by which the kernel sends signals for it.
const FCNTL: [i32; 7] =
    [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GETLK, libc::F_SETLK];

/// Permission to use the registers of AMX (arch/x86/include/uapi/asm/prctl.h), which oneDNN asks for.
const ARCH_REGISTERS: [u64; 3] = [0x1021, 0x1022, 0x1023];

/// Calls that are told to be missing, so that the C library does without: `clone3` takes its flags in memory, where a
/// filter cannot see them, and `clone` does not.
pub fn absent() -> Result<BpfProgram, Error> {
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    compile([(libc::SYS_clone3, vec![])], missing, SeccompAction::Allow)
}

/// The filter that allows what is listed here and refuses the rest.
pub fn allowed() -> Result<BpfProgram, Error> {
    let mut rules: Vec<(c_long, Vec<SeccompRule>)> = FREE.iter().map(|&call| (call, vec![])).collect();
    rules.push((libc::SYS_clone3, vec![]));
    let thread = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
    rules.push((libc::SYS_clone, vec![rule([(0, Qword, MaskedEq(thread), thread)])?]));
    // Of descriptors, not of names: with this flag an empty name stands for the descriptor. A filter cannot see whether it
    // is empty; so whether a file exists, and how large it is, can be found out, and nothing in it.
    let by_descriptor = libc::AT_EMPTY_PATH as u64;
    rules.push((libc::SYS_newfstatat, vec![rule([(3, Dword, MaskedEq(by_descriptor), by_descriptor)])?]));
    rules.push((libc::SYS_statx, vec![rule([(2, Dword, MaskedEq(by_descriptor), by_descriptor)])?]));
    // Nothing is mapped executable: no library is loaded any more.
    rules.push((libc::SYS_mmap, vec![rule([(2, Dword, MaskedEq(libc::PROT_EXEC as u64), 0)])?]));
    rules.push((libc::SYS_fcntl, one_of(1, FCNTL.map(|command| command as u64))?));
    // Whether a page found no space is found out by giving it some.
    rules.push((libc::SYS_fallocate, one_of(1, [0])?));
    rules.push((libc::SYS_ioctl, one_of(1, [libc::FIONBIO])?));
    rules.push((libc::SYS_arch_prctl, one_of(0, ARCH_REGISTERS)?));
    // The name of a thread. Not PR_SET_DUMPABLE, PR_SET_PTRACER and all others.
    rules.push((libc::SYS_prctl, one_of(0, [libc::PR_SET_NAME as u64])?));
    // Limits are read, of this process, and not set.
    rules.push((libc::SYS_prlimit64, vec![rule([(0, Dword, Eq, SELF), (2, Qword, Eq, 0)])?]));
    rules.push((libc::SYS_getrlimit, vec![]));
    // To this process alone: `abort` and `raise`.
    rules.push((libc::SYS_tgkill, one_of(0, [u64::from(std::process::id())])?));
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

fn one_of<const N: usize>(argument: u8, values: [u64; N]) -> Result<Vec<SeccompRule>, Error> {
    values.into_iter().map(|value| rule([(argument, Dword, Eq, value)])).collect()
}

fn rule<const N: usize>(conditions: [(u8, SeccompCmpArgLen, SeccompCmpOp, u64); N]) -> Result<SeccompRule, Error> {
    let conditions = conditions
        .into_iter()
        .map(|(argument, length, operator, value)| SeccompCondition::new(argument, length, operator, value));
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}
