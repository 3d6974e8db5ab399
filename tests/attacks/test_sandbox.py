"""What an enclave that an attacker has taken over from within could still do: each thing is tried, and refused."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tampered
from hosting import kept
from jobs import CFG, Job, must
from plinius.enclave import sandbox
from plinius.errors import EnclaveError

ATTEMPTS = Path(__file__).with_name("attempts.py")


def outcomes(folder: Path, *options: str) -> dict[str, int]:
    """What `attempts.py` was told for each attempt, as an errno; 0: it succeeded."""
    command = [sys.executable, "-I", str(ATTEMPTS), str(folder), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return outcomes(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def inside_it(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return outcomes(tmp_path_factory.mktemp("inside"), "shut in")


def test_what_is_forbidden_is_refused(inside_it: dict[str, int]) -> None:
    expected = dict.fromkeys(inside_it, errno.EPERM) | {"clone3": errno.ENOSYS}
    assert {name: errno.errorcode.get(it, it) for name, it in inside_it.items()} == {
        name: errno.errorcode[it] for name, it in expected.items()
    }
    assert len(inside_it) >= 50


def test_the_same_attempts_meet_no_such_refusal_outside(outside: dict[str, int], inside_it: dict[str, int]) -> None:
    """So that the test above does not try what nobody can do, or in a way that nobody can."""
    if os.geteuid() != 0:
        pytest.skip("some of the attempts are for root alone everywhere")
    assert set(outside) == set(inside_it)
    assert {name for name, it in outside.items() if it == errno.EPERM} == set()


ALLOWED = """
import os, socket, sys, threading, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
from plinius.attest.release import REVEALABLE, Grant, Terms
from plinius.darknet.cfg import parse
from plinius.dataset.packing import seal_into
from plinius.enclave import rehearsal, sandbox
from plinius.enclave.job import Job
from plinius.enclave.trainer import train
from plinius.enclave.hosted import HostedPool, host_at, look_at
from plinius.seal import Key
from plinius.wire import Channel, Progress, Train
cfg = sys.argv[1].encode()
config = parse(cfg, "cfg")
channel, pool_fd, data_fd = Channel(socket.socket(fileno=int(sys.argv[2]))), int(sys.argv[3]), os.memfd_create("data")
medium = look_at(pool_fd, "pool")
rehearsal.rehearse()
sandbox.enter()
key = Key.generate()
with os.fdopen(os.dup(data_fd), "wb") as file:
    seal_into(file, np.arange(64 * 64, dtype=np.uint8).reshape(64, 1, 8, 8), np.arange(64) % 10, key)
pool = HostedPool(host_at(channel), pool_fd, "pool", medium)
job = Job.decide(Train("cfg", "data", "pool", 3, 1, 1, 2), cfg, config, pool, Grant(key, Terms(sorted(REVEALABLE))))
told = []
train(job, pool, key, data_fd, told.append, lambda: False)
assert [it.durable_step for it in told if isinstance(it, Progress)] == [1, 2, 3]
worked = []
thread = threading.Thread(target=lambda: (time.sleep(0.001), worked.append(os.urandom(1))))
thread.start()
thread.join()
assert worked and key.custody in ("memfd_secret", "locked", "plain")
print(key.custody)
"""


def test_what_an_enclave_needs_is_allowed() -> None:
    """In a pool that its host lets grow, with two threads, on a network of other shapes than the rehearsal's."""
    cfg = CFG.format(batch=8, learning_rate=0.05, filters=24)
    pool = os.memfd_create("pool")
    with kept(pool) as channel:
        passed = (channel.fileno(), pool)
        command = [sys.executable, "-I", "-c", ALLOWED, cfg, *map(str, passed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, pass_fds=passed)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.fstat(pool).st_size > 4 << 20
    os.close(pool)
    assert done.stdout.strip() == must("doctor", "--json").messages[0]["key_custody"]


# Nothing is imported or opened after it.

NOTED = """
import linecache, os
from plinius.enclave import sandbox
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT, 0o600)
armed = False
def by_linecache(frame):
    while frame:
        if frame.f_code.co_filename == linecache.__file__:
            return True
        frame = frame.f_back
    return False
def note(event, arguments):
    if not armed or event not in ("import", "open", "os.listdir", "os.scandir", "socket.__new__", "subprocess.Popen"):
        return
    # The data are a descriptor. torch formats a traceback with each seed, whose source lines it then lacks.
    if event == "open" and (isinstance(arguments[0], int) or by_linecache(sys._getframe())):
        return
    os.write(log, f"{{event}} {{arguments[0]}}\\n".encode())
sys.addaudithook(note)
enter = sandbox.enter
def entering(**options):
    global armed
    missing = enter(**options)
    armed = True
    return missing
sandbox.enter = entering
serve = enclave.serve
def serving(options):
    global armed
    serve(options)
    os.write(log, b"entered\\n" if armed else b"never entered\\n")
    armed = False
enclave.serve = serving
{more}
"""

EVERYTHING = """
[net]
batch=8
subdivisions=2
height=8
width=8
channels=1
learning_rate=0.01
momentum=0.9
decay=0.0005
policy=sigmoid
gamma=.1
step=2
max_batches=6
[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=elu
[convolutional]
filters=8
size=3
stride=1
pad=1
activation=relu
[shortcut]
from=-2
activation=linear
[maxpool]
size=2
stride=2
[upsample]
stride=2
[route]
layers=-1,-3
[batchnorm]
[avgpool]
[dropout]
probability=.3
[connected]
output=10
activation=leaky
[softmax]
"""


@pytest.mark.parametrize("cfg", ["small", "everything"])
def test_nothing_is_imported_or_opened_after_the_sandbox(job: Job, folder: Path, cfg: str) -> None:
    if cfg == "everything":
        (folder / "net.cfg").write_text(EVERYTHING)
        job = job.but(cfg=folder / "net.cfg")
    log = folder / "log"
    lines = NOTED.format(log=str(log), more="")
    for command in (job.train("--steps", "3"), job.train("--steps", "5", "--reveal", "loss"), job.infer()):
        done = tampered.run(folder, lines, *command)
        assert (done.code, done.err) == (0, "")
        assert log.read_text() == "entered\n"
        log.unlink()


def test_an_import_after_the_sandbox_would_be_noted(job: Job, folder: Path) -> None:
    """Without the rehearsal there are many."""
    log = folder / "log"
    more = "os.environ['OPENBLAS_NUM_THREADS'] = '1'\nfrom plinius.enclave import rehearsal\nrehearsal.rehearse = int"
    done = tampered.run(folder, NOTED.format(log=str(log), more=more), *job.train("--steps", "3"))
    assert done.code == 12
    assert "import" in log.read_text()


FAILING = """
from plinius.enclave import sandbox
enter = sandbox.enter
def entering(**options):
    from plinius.darknet.training import Training
    missing = enter(**options)
    Training.start = lambda *_: 1 // 0
    return missing
sandbox.enter = entering
"""


def test_an_error_after_the_sandbox_reaches_the_user_as_one_line(job: Job, folder: Path) -> None:
    """Where the sources, in which tracebacks look, cannot be read any more."""
    done = tampered.run(folder, FAILING, *job.train("--steps", "3"))
    assert done.code == 12
    line = 7 + FAILING.splitlines().index("    Training.start = lambda *_: 1 // 0")
    assert done.err == f"plinius: internal error: ZeroDivisionError in started, line {line}; please report it\n"


REHEARSED = """
import random, numpy as np, torch
from plinius.enclave import rehearsal
def states():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
random.seed(1), np.random.seed(2), torch.manual_seed(3)
before = states()
rehearsal.rehearse()
assert states() == before
"""


def test_a_rehearsal_leaves_the_random_generators_as_they_were() -> None:
    """They are part of what a job saves."""
    subprocess.run([sys.executable, "-I", "-c", REHEARSED], check=True)


# What is missing is said, and is the end of it.


@pytest.mark.parametrize(
    ("landlock_abi", "seccomp", "others", "missing"),
    [
        (0, True, 0, "this kernel has no Landlock, or it is switched off"),
        (7, False, 0, "this kernel has no seccomp"),
        (7, True, 3, "3 threads are outside Landlock"),
    ],
)
def test_without_a_part_of_the_sandbox_no_key_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, landlock_abi: int, seccomp: bool, others: int, missing: str
) -> None:
    monkeypatch.setattr(sandbox._core, "enter_sandbox", lambda: (landlock_abi, seccomp))
    monkeypatch.setattr(sandbox, "_other_threads", lambda: others)
    with pytest.raises(EnclaveError, match=f"no key is asked for outside a sandbox: {missing}"):
        sandbox.enter()
    assert sandbox.enter(insecurely=True) == (missing,)


def test_a_sandbox_that_fails_is_not_gone_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> tuple[int, bool]:
        raise OSError("seccomp failed: no memory")

    monkeypatch.setattr(sandbox._core, "enter_sandbox", failing)
    for insecurely in (False, True):
        with pytest.raises(EnclaveError, match="cannot be entered: seccomp failed: no memory"):
            sandbox.enter(insecurely=insecurely)


def test_an_enclave_that_goes_on_insecurely_says_so(job: Job, folder: Path) -> None:
    lines = "from plinius.enclave import sandbox\nsandbox._core.enter_sandbox = lambda: (0, True)"
    done = tampered.run(folder, lines, *job.train("--steps", "1"))
    assert (done.code, job.pool.exists()) == (12, False)
    assert done.err == (
        "plinius: no key is asked for outside a sandbox: this kernel has no Landlock, or it is switched off; "
        "--insecure-no-sandbox goes on all the same\n"
    )
    done = tampered.run(folder, lines, *job.train("--steps", "1", "--json", "--insecure-no-sandbox"))
    assert done.code == 0
    assert done.of("Notice")[0]["text"] == (
        "insecure: the enclave is not in its sandbox: this kernel has no Landlock, or it is switched off"
    )


def test_an_enclave_with_a_second_thread_is_outside_it() -> None:
    program = """
import threading
from plinius.enclave import sandbox
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    sandbox.enter()
except Exception as error:
    print(error, flush=True)
"""
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout.startswith("no key is asked for outside a sandbox: 1 threads are outside Landlock; ")
