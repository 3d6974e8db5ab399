"""Where the key is while a job runs and afterwards: in no memory that anybody can read, in no file, in no core dump."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import Job, Running, is_alive, must, wait_for
from plinius.seal import key_custody
from safetensors.numpy import load_file
from scanning import Needles, found, in_memory, of_key

READABLE = "r..."


@pytest.fixture(scope="module")
def own_job(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("scanned")
    return Job(files / "net.cfg", files / "data.sealed", files / "job.key", folder / "job.pool")


@pytest.fixture(scope="module")
def key_of(own_job: Job) -> Needles:
    return of_key(own_job.key.read_text())


@pytest.fixture(scope="module")
def still(own_job: Job) -> Iterator[tuple[int, int]]:
    """Host and enclave of a training that runs, held still."""
    with Running(*own_job.train("--steps", 1 << 30)) as running:
        running.until("Progress", step=20)
        enclave = running.enclave()
        for each in (enclave, running.pid):
            os.kill(each, signal.SIGSTOP)
        yield running.pid, enclave


def only_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("the enclave cannot be read, as it should be; only root can look whether its key is there")


def test_the_key_is_in_no_memory_of_the_enclave_that_root_can_read(still: tuple[int, int], key_of: Needles) -> None:
    """Whatever libraries did with it on its way in: all copies were wiped, and the one that stays is out of reach."""
    only_root()
    if key_custody() != "memfd_secret":
        pytest.skip("this kernel has no memfd_secret: root reads the key where it is kept")
    for process in still:
        assert in_memory(key_of, process, READABLE) == set()
        maps = Path(f"/proc/{process}/maps").read_text()
        assert ("/secretmem" in maps) == (process == still[1])


HOLDING = """
import sys, time
text = open(sys.argv[1]).read()
secret = bytes.fromhex(text.split()[3])
print("held", flush=True)
time.sleep(600)
"""


def test_the_same_search_finds_a_key_that_is_held(own_job: Job, key_of: Needles) -> None:
    command = [sys.executable, "-I", "-c", HOLDING, str(own_job.key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            holder.stdout.readline()
            assert in_memory(key_of, holder.pid, READABLE) == set(key_of)
        finally:
            holder.kill()


def test_what_the_system_tells_of_the_enclave(still: tuple[int, int], key_of: Needles) -> None:
    for process in still:
        about = [Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ", "maps", "status")]
        assert found(key_of, about) == set()


def test_what_a_finished_training_leaves(own_job: Job, key_of: Needles, folder: Path) -> None:
    job = own_job.but(pool=folder / "job.pool")
    done = must(*job.train("--steps", 12, "--json"))
    must(*job.export(folder / "net.safetensors"))
    exported = load_file(folder / "net.safetensors").values()
    runs = [tensor.tobytes()[:32] for tensor in exported if len(set(tensor.flat)) > 16]
    assert len(runs) >= 3
    needles = {**key_of, "the weights": runs}
    left = [job.pool.read_bytes(), job.data.read_bytes(), done.out.encode(), done.err.encode()]
    assert found(needles, left) == set()
    assert found(needles, [(folder / "net.safetensors").read_bytes()]) == {"the weights"}


# Core dumps.


def allow_core_dumps() -> None:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


@pytest.fixture
def dumping_folder(tmp_path: Path) -> Path:
    """A folder in which a program that aborts leaves a core dump."""
    command = [sys.executable, "-I", "-c", "import os; os.abort()"]
    subprocess.run(command, cwd=tmp_path, preexec_fn=allow_core_dumps, check=False)
    cores = list(tmp_path.iterdir())
    if not cores:
        pytest.skip("this machine lets no program leave a core dump in its folder")
    for core in cores:
        core.unlink()
    return tmp_path


def test_an_enclave_that_aborts_leaves_no_core_dump(own_job: Job, dumping_folder: Path, folder: Path) -> None:
    job = own_job.but(pool=folder / "job.pool")
    options = {"cwd": dumping_folder, "preexec_fn": allow_core_dumps}
    with Running(*job.train("--steps", 1 << 30, "--restarts", 0), **options) as running:
        running.until("Progress", step=3)
        enclave = running.enclave()
        os.kill(enclave, signal.SIGABRT)
        done = running.end()
    assert "the enclave died (SIGABRT)" in done.err
    wait_for(lambda: not is_alive(enclave))
    assert list(dumping_folder.iterdir()) == []


# The same user's other processes.

SIBLINGS = """
import ctypes, json, os, signal, sys
from plinius import process
libc = ctypes.CDLL(None, use_errno=True)
secret = ctypes.create_string_buffer(b"a secret of the victim's")
def become_the_same_user():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        libc.prctl(4, 1, 0, 0, 0)  # a change of user has made it undumpable
def attempt(work):
    try:
        return bool(work())
    except OSError:
        return False
def read_memory():
    with open(f"/proc/{victim}/mem", "rb", buffering=0) as file:
        file.seek(ctypes.addressof(secret))
        return file.read(8) == b"a secret"
def call(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *arguments) >= 0
class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
reader, writer = os.pipe()
victim = os.fork()
if not victim:
    become_the_same_user()
    if sys.argv[1] == "hardened":
        process.leave_no_traces()
    os.write(writer, b"x")
    signal.pause()
os.read(reader, 1)
spy = os.fork()
if not spy:
    become_the_same_user()
    out = ctypes.create_string_buffer(8)
    local, remote = Iovec(ctypes.addressof(out), 8), Iovec(ctypes.addressof(secret), 8)
    print(json.dumps({
        "mem": attempt(read_memory),
        "environ": attempt(lambda: open(f"/proc/{victim}/environ").read() or True),
        "descriptors": attempt(lambda: os.listdir(f"/proc/{victim}/fd")),
        "process_vm_readv": call(310, victim, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0),
        "pidfd_getfd": call(438, libc.syscall(434, victim, 0), 0, 0),
        "ptrace": call(101, 16, victim, None, None),
    }), flush=True)
    os._exit(0)
os.waitpid(spy, 0)
os.kill(victim, signal.SIGKILL)
"""


def what_a_sibling_can(how: str) -> dict[str, bool]:
    command = [sys.executable, "-I", "-c", SIBLINGS, how]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    can: dict[str, bool] = json.loads(done.stdout)
    return can


def test_another_process_of_the_same_user_reads_nothing_of_a_hardened_one() -> None:
    """Enclave, owner and broker are hardened so; root can read them: a simulated TEE is no TEE."""
    can = what_a_sibling_can("hardened")
    assert can == dict.fromkeys(can, False)


def test_it_would_without_the_hardening() -> None:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and scope.read_text().strip() != "0":
        pytest.skip("this machine lets no process read another one anyway (kernel.yama.ptrace_scope)")
    can = what_a_sibling_can("as it is")
    assert can == dict.fromkeys(can, True)
