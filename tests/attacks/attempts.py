"""What `test_sandbox.py` tries, in a process of its own; prints the errno of each attempt as JSON. Not a test.

Arguments that lead to nothing are chosen where an attempt that succeeds would end or change something: outside the
sandbox the kernel then complains of them (EFAULT, EBADF), inside it refuses the call itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from plinius import process
from plinius.enclave import sandbox

libc = ctypes.CDLL(None, use_errno=True)
BAD_POINTER = ctypes.c_void_p(1)
NO_PID, NO_FD = 1 << 22, 1 << 20
PR_SET_DUMPABLE, PR_SET_PTRACER = 4, 0x59616D61
X32_BIT, X32_GETPID = 0x40000000, 39

SYSCALLS: dict[str, tuple[int, tuple[object, ...]]] = {
    "open": (2, (BAD_POINTER, 0)),
    "creat": (85, (BAD_POINTER, 0o600)),
    "openat": (257, (-100, BAD_POINTER, 0)),
    "openat2": (437, (-100, BAD_POINTER, BAD_POINTER, 24)),
    "open_by_handle_at": (304, (-100, BAD_POINTER, 0)),
    "name_to_handle_at": (303, (NO_FD, BAD_POINTER, BAD_POINTER, BAD_POINTER, 0)),
    "stat of a name": (262, (-100, BAD_POINTER, BAD_POINTER, 0)),
    "statx of a name": (332, (-100, BAD_POINTER, 0, 0, BAD_POINTER)),
    "access": (21, (BAD_POINTER, 0)),
    "readlink": (89, (BAD_POINTER, BAD_POINTER, 1)),
    "getdents64": (217, (NO_FD, BAD_POINTER, 0)),
    "chdir": (80, (BAD_POINTER,)),
    "chmod": (90, (BAD_POINTER, 0)),
    "rename": (82, (BAD_POINTER, BAD_POINTER)),
    "symlink": (88, (BAD_POINTER, BAD_POINTER)),
    "mknod": (133, (BAD_POINTER, 0o10600, 0)),
    "truncate": (76, (BAD_POINTER, 0)),
    "fallocate a hole": (285, (NO_FD, 3, 0, 1)),
    "fsync": (74, (NO_FD,)),
    "fdatasync": (75, (NO_FD,)),
    "msync": (26, (BAD_POINTER, 0, 0)),
    "execve": (59, (BAD_POINTER, None, None)),
    "execveat": (322, (NO_FD, BAD_POINTER, None, None, 0)),
    "clone3": (435, (BAD_POINTER, 88)),
    "ptrace": (101, (16, NO_PID, None, None)),
    "process_vm_readv": (310, (NO_PID, None, 0, None, 0, 0)),
    "process_vm_writev": (311, (NO_PID, None, 0, None, 0, 0)),
    "pidfd_open": (434, (NO_PID, 0)),
    "pidfd_getfd": (438, (NO_FD, 0, 0)),
    "pidfd_send_signal": (424, (NO_FD, 0, None, 0)),
    "process_madvise": (440, (NO_FD, None, 0, 0, 0)),
    "tkill": (200, (NO_PID, 0)),
    "tgkill another": (234, (NO_PID, NO_PID, 0)),
    "rt_sigqueueinfo": (129, (NO_PID, 0, BAD_POINTER)),
    "io_uring_setup": (425, (1, BAD_POINTER)),
    "bpf": (321, (0, BAD_POINTER, 1 << 20)),
    "userfaultfd": (323, (1 << 30,)),
    "perf_event_open": (298, (BAD_POINTER, 0, 0, 0, 0)),
    "mount": (165, (BAD_POINTER, BAD_POINTER, BAD_POINTER, 0, None)),
    "umount": (166, (BAD_POINTER, 0)),
    "pivot_root": (155, (BAD_POINTER, BAD_POINTER)),
    "chroot": (161, (BAD_POINTER,)),
    "unshare": (272, (1,)),
    "setns": (308, (NO_FD, 0)),
    "keyctl": (250, (0x7FFF, 0, 0, 0, 0)),
    "add_key": (248, (BAD_POINTER, BAD_POINTER, None, 0, 0)),
    "personality": (135, (0xFFFFFFFF,)),
    "setuid": (105, (-1,)),
    "capset": (126, (BAD_POINTER, BAD_POINTER)),
    "prctl to be dumpable": (157, (PR_SET_DUMPABLE, 7, 0, 0, 0)),
    "prctl to be traced": (157, (PR_SET_PTRACER, 0, 0, 0, 0)),
    "arch_prctl": (158, (0x7FFF, 0)),
    "prlimit": (302, (0, 1 << 10, BAD_POINTER, None)),
    "setrlimit": (160, (1 << 10, BAD_POINTER)),
    "memfd_create": (319, (BAD_POINTER, 0)),
    "socketpair": (53, (1, 1, 0, BAD_POINTER)),
    "sendmsg": (46, (NO_FD, BAD_POINTER, 0)),
    "recvmsg": (47, (NO_FD, BAD_POINTER, 0)),
    "listen": (50, (NO_FD, 1)),
    "accept": (43, (NO_FD, None, None)),
    "setsockopt": (54, (NO_FD, 1, 2, BAD_POINTER, 4)),
    "fcntl F_SETOWN": (72, (NO_FD, 8, 1)),
    "fcntl F_ADD_SEALS": (72, (NO_FD, 1033, 0)),
    "ioctl": (16, (NO_FD, 0x5412, BAD_POINTER)),
    "mmap executable": (9, (None, 0, 5, 0x22, -1, 0)),
    "vmsplice": (278, (NO_FD, BAD_POINTER, 1, 0)),
    "sendfile": (40, (NO_FD, NO_FD, None, 1)),
    "kexec_load": (246, (0, 1 << 20, BAD_POINTER, 0x80000000)),
    "seccomp": (317, (0x7FFF, 0, None)),
    "a call of the x32 ABI": (X32_BIT + X32_GETPID, ()),
    "a call that no kernel has": (9999, ()),
}


def syscall(number: int, *arguments: object) -> int:
    """The errno of a raw system call; 0: it succeeded."""
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *arguments) < 0 else 0


def of(attempt: Callable[[], object]) -> int:
    """The errno of an attempt; 0: it succeeded."""
    try:
        attempt()
    except OSError as error:
        return error.errno or -1
    return 0


def forked() -> None:
    """Forks, and ends the child at once."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def in_words(folder: Path, listening: bytes) -> dict[str, Callable[[], object]]:
    """Attempts that would succeed, and harm nobody."""
    there = folder / "there"
    there.write_text("x")
    tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return {
        "read a file": there.read_text,
        "write a file": lambda: there.write_text("y"),
        "create a file": lambda: (folder / "new").write_text("z"),
        "make a folder": (folder / "made").mkdir,
        "remove a file": there.unlink,
        "list a folder": lambda: os.listdir(folder),  # noqa: PTH208 (its error is what is asked for)
        "read its own memory": lambda: Path("/proc/self/mem").open("rb"),
        "read its own maps": Path("/proc/self/maps").read_text,
        "look into /dev/shm": lambda: os.listdir("/dev/shm"),  # noqa: PTH208, S108
        "create in /dev/shm": lambda: os.close(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)),  # noqa: S108
        "make a socket": lambda: socket.socket().close(),
        "connect": lambda: tcp.connect(("127.0.0.1", 9)),
        "bind": lambda: udp.bind(("127.0.0.1", 0)),
        "connect to an abstract socket": lambda: unix.connect(listening),
        "fork": forked,
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    }


def main() -> None:
    """Tries everything in a folder, shut in if a second argument says so."""
    folder, *options = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0plinius-test-{os.getpid()}")
        listener.listen()
        words = in_words(Path(folder), listener.getsockname())
        if options:
            process.leave_no_traces()
            sandbox.enter()
        told = {what: of(attempt) for what, attempt in words.items()}
        told |= {what: syscall(number, *arguments) for what, (number, arguments) in SYSCALLS.items()}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
