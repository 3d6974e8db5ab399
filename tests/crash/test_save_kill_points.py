"""SIGKILL at 60 points spread over a save of a 12-layer model: the next process recovers everything at each of them."""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import struct
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from plinius import Key, Mirror, Pool
from plinius.darknet import parse
from plinius.darknet.training import Training
from plinius.mirror import RollbackWarning

POINTS = 60
MAX_LIVES = 5 * POINTS  # many a save is over before its kill, most of those that are to be killed near the end
NEVER_NS = 10**12
TIMED_SAVES = 9  # their median is what the points divide
PAGE = 4096
GROWTH_BYTES = 64 << 10  # a pool grows by multiples of this
WORD = struct.Struct("<q")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1

CONVOLUTIONAL = """
[convolutional]
batch_normalize={normalize}
filters={filters}
size={size}
stride=1
pad=1
activation=leaky
"""
HALVED = """
[maxpool]
size=2
stride=2
"""


def layers(count: int, filters: int, size: int = 3, normalize: int = 1) -> str:
    return CONVOLUTIONAL.format(filters=filters, size=size, normalize=normalize) * count


# The shape of the network that the paper trains on MNIST.
TWELVE_LAYERS = f"""
[net]
height=28
width=28
channels=1
momentum=0.9
{layers(1, 32)}{HALVED}{layers(9, 64)}{HALVED}{layers(1, 128)}
[dropout]
{layers(1, 10, size=1, normalize=0)}
[avgpool]

[softmax]
"""


class Signal(ctypes.Structure):
    """`struct sigevent`."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


def kill_me_after(delay_ns: int) -> None:
    """Has the kernel kill this process at a moment that does not depend on when another process gets a core."""
    timer, once = ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, *divmod(delay_ns, 10**9))
    assert LIBC.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(Signal(None, signal.SIGKILL)), ctypes.byref(timer)) == 0
    assert LIBC.timer_settime(timer, 0, once, None) == 0


@dataclass(frozen=True)
class Life:
    """A process that recovered, made two steps with a save after each, and was killed in the save after the third.

    Attributes:
        recovered: The step that it had recovered.
        save_ns: How long its second save took, which nobody disturbed.
        struck: Whether the third save was killed before it could say that it had returned.
        written: How many pages of the pool the third save had changed by then.
    """

    recovered: int
    save_ns: int
    struck: bool
    written: int


class Lineage:
    """Processes that train one model. Each is killed, and each goes on from what the one before left in the pool."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = Key.generate()
        self.training = Training.start(parse(TWELVE_LAYERS.encode(), "cfg"), seed=1)
        self.durable = {1}  # the steps of which the next process may find one
        self.most_bytes = self._begin()

    def next(self, kill_after_ns: float) -> Life:
        """Runs one process, killed so long after its third save began, or when that has returned."""
        reports, report = os.pipe()
        child = os.fork()
        if child == 0:
            self._live_and_exit(report, int(kill_after_ns))
        os.close(report)
        _, outcome = os.waitpid(child, os.WUNTRACED)
        before = page_sums(self.path)
        if os.WIFSTOPPED(outcome):
            os.kill(child, signal.SIGCONT)
            _, outcome = os.waitpid(child, 0)
        with os.fdopen(reports, "rb") as said:
            words = said.read()
        assert os.waitstatus_to_exitcode(outcome) == -signal.SIGKILL, words.decode(errors="replace")
        assert self.path.stat().st_size <= self.most_bytes
        recovered, save_ns, *late = (word for (word,) in WORD.iter_unpack(words))
        self.durable = {recovered + 3} if late else {recovered + 2, recovered + 3}
        return Life(recovered, save_ns, not late, int((before != page_sums(self.path)).sum()))

    def _live_and_exit(self, report: int, kill_after_ns: int) -> None:
        try:
            self._live(report, kill_after_ns)
        except BaseException:
            os.write(report, traceback.format_exc().encode())
        finally:
            os._exit(1)  # nothing of the test that was forked may run on in this process

    def _live(self, report: int, kill_after_ns: int) -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a test that is cancelled leaves nobody stopped for ever
        mirror = Mirror(Pool(self.path), self.key, name="m", **self.training.state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            step = mirror.restore()
        assert step in self.durable
        self._check(step)
        # The first save of a process is not like the others: it takes longer, and not in the pool.
        self._set(step + 1)
        mirror.save(step + 1)
        self._set(step + 2)
        began_ns = time.monotonic_ns()
        mirror.save(step + 2)
        os.write(report, WORD.pack(step) + WORD.pack(time.monotonic_ns() - began_ns))
        self._set(step + 3)
        os.kill(os.getpid(), signal.SIGSTOP)
        kill_me_after(kill_after_ns)
        mirror.save(step + 3)
        os.write(report, WORD.pack(step + 3))
        os.kill(os.getpid(), signal.SIGKILL)

    def _begin(self) -> int:
        """Saves step 1, and returns how large the pool may get. What this imports, no later process has to."""
        self.training.step(0, np.zeros((2, 1, 28, 28), np.float32), np.zeros(2, np.int64))
        self._set(1)
        assert 3e6 < sum(tensor.nbytes for tensor in self._tensors()) < 3.3e6
        with Pool(self.path) as pool:
            empty = pool.bytes - pool.free_bytes
            Mirror(pool, self.key, name="m", **self.training.state).save(1)
            generation = pool.bytes - pool.free_bytes - empty
        self.training.optimizer.state.clear()  # a process that starts has no momentum
        return empty + 2 * generation + GROWTH_BYTES  # the generation that is kept, and one more

    def _set(self, step: int) -> None:
        """Makes every element a function of the step, so that a mixture of two steps is no step's state."""
        torch.manual_seed(step)
        for tensor in self._tensors():
            tensor.uniform_(-1, 1)

    def _check(self, step: int) -> None:
        recovered = self._contents()
        self._set(step)
        assert recovered == self._contents(), f"what was recovered is not the state of step {step}"

    def _contents(self) -> list[bytes]:
        return [tensor.numpy().tobytes() for tensor in (*self._tensors(), torch.get_rng_state())]

    def _tensors(self) -> list[torch.Tensor]:
        momentum = [state["momentum_buffer"] for state in self.training.optimizer.state_dict()["state"].values()]
        return [tensor.detach() for tensor in (*self.training.network.state_dict().values(), *momentum)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A forked process has none of torch's threads and must not wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_each_of_60_kills_inside_a_save_is_recovered(
    folder: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage = Lineage(folder / "job.pool")
    lives = [lineage.next(NEVER_NS) for _ in range(TIMED_SAVES)]
    written: list[int] = []
    while len(written) < POINTS:
        assert len(lives) < MAX_LIVES, f"the save was over again and again before point {len(written)}"
        save_ns = statistics.median(life.save_ns for life in lives[-TIMED_SAVES:])
        lives.append(lineage.next((len(written) + 0.5) / POINTS * save_ns))
        if lives[-1].struck:
            written.append(lives[-1].written)
    lives.append(lineage.next(NEVER_NS))  # so that somebody recovers after the last kill too
    found = Counter(after.recovered - life.recovered - 2 for life, after in pairwise(lives) if life.struck)
    assert found.total() == POINTS
    early, middle, late = (statistics.median(written[third : third + 20]) for third in (0, 20, 40))
    assert early < late, f"the kills were not spread over the save: pages that it had written: {written}"
    with capsys.disabled():
        print(
            f"\n{POINTS} of {POINTS} kills inside a save ({save_ns / 1e6:.1f} ms) recovered: {found[0]} to the step "
            f"before, {found[1]} to the step after; pages written by then, medians of each third: "
            f"{early:.0f}, {middle:.0f}, {late:.0f}; {len(lives)} processes"
        )


def page_sums(path: Path) -> npt.NDArray[np.uint64]:
    """A number for each page of a file, another one when the page has been written."""
    return np.memmap(path, np.uint64, "r").reshape(-1, PAGE // 8).sum(axis=1)
