"""A mirror whose calls are interrupted at each point at which the interpreter looks at signals, one after the other."""

from __future__ import annotations

import dis
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.mirror.draining import newest_drained

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")

_OURS = ("/plinius/mirror/", "/plinius/pool/", "/threading.py", "/contextlib.py")
# Before the constructor or the generator returns to C there is such a point; a function of Python's returns without.
_CALLED_BY_C = ("__init__", "__enter__", "__exit__")


class Interrupt:
    """Does something at one point of a call: behind the n-th call that the code of interest makes.

    Args:
        number: Which one, from 1.
        act: What the signal's handler does.
    """

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self._left, self._act = number, act
        self._called: set[FrameType] = set()

    @property
    def has_come(self) -> bool:
        """Whether the call came so far."""
        return self._left <= 0

    def during(self, call: Callable[[], object]) -> BaseException | None:
        """Calls, and returns what was raised: as long as that is held, nothing on its way is cleaned away."""
        before = sys.gettrace()
        sys.settrace(self._entered)
        try:
            call()
        except BaseException as error:
            return error
        finally:
            sys.settrace(before)
        return None

    def _entered(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if not code.co_flags & inspect.CO_GENERATOR and code.co_name not in _CALLED_BY_C and frame.f_back:
            self._called.discard(frame.f_back)
        if not any(part in code.co_filename for part in _OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._at

    def _at(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            is_behind = frame in self._called
            self._called.discard(frame)
            if frame.f_code.co_code[frame.f_lasti] == dis.opmap["CALL"]:
                self._called.add(frame)
            if is_behind:
                self._left -= 1
                if self._left == 0:
                    self._act()
        return self._at


def interrupt() -> None:
    raise KeyboardInterrupt


def in_a_thread(call: Callable[[], object]) -> None:
    """Calls in a thread of its own, which is to come to its end."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for ever"


class Job:
    """A job whose mirror drains; saves that it was told of are durable."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.far, self.step = np.zeros(9), folder / "far", 0
        self.pool = Pool(folder / "job.pool", heap_bytes=1 << 16)
        self.mirror = Mirror(self.pool, Key.generate(), name="m", array=[self.weights], drain_to=self.far)

    def save(self, *, wait: bool = True) -> None:
        self.step += 1
        self.weights[:] = self.step
        self.mirror.save(self.step, wait=wait)

    def go_on(self) -> None:
        """Goes on in another thread, which finds out what an interrupted one holds still."""

        def save() -> None:
            self.save(wait=False)
            self.mirror.wait()

        in_a_thread(save)
        drained = newest_drained(self.far, "m")
        assert drained is not None
        assert self.mirror.latest_step() == drained.step == self.step


@contextmanager
def job_in(folder: Path) -> Iterator[Job]:
    folder.mkdir()
    job = Job(folder)
    try:
        job.save()
        job.mirror.wait()
        yield job
        job.mirror.close()
    finally:
        job.pool.close()


CALLS: dict[str, Callable[[Job], None]] = {
    "save": lambda job: job.save(),
    "save in the background": lambda job: job.save(wait=False),
    "wait": lambda job: job.mirror.wait(),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_leaves_nothing_locked(folder: Path, call: str) -> None:
    for number in itertools.count(1):
        with job_in(folder / str(number)) as job:
            job.save()  # a drain may be under way
            point = Interrupt(number, interrupt)
            held = point.during(lambda: CALLS[call](job))
            if not point.has_come:
                break
            assert held is not None
            job.go_on()
    assert number > 2


def test_a_handler_may_save_and_wait_in_the_midst_of_waiting(folder: Path) -> None:
    for number in itertools.count(1):
        with job_in(folder / str(number)) as job:
            job.save()  # a drain may be under way

            def handler() -> None:
                job.save(wait=False)
                job.mirror.wait()

            point = Interrupt(number, handler)
            in_a_thread(lambda: point.during(job.mirror.wait))  # noqa: B023
            if not point.has_come:
                break
            job.go_on()


def test_a_save_in_flight_is_waited_for_although_its_mirror_was_being_closed(folder: Path) -> None:
    for number in itertools.count(1):
        with job_in(folder / str(number)) as job:
            job.save(wait=False)
            point = Interrupt(number, interrupt)
            point.during(job.mirror.close)
            job.mirror.wait()
            assert job.mirror.latest_step() == job.step == 2
            if not point.has_come:
                break
    assert number > 2


def test_a_handler_may_wait_in_the_midst_of_a_save_that_gets_no_thread(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "plinius-save":
            raise RuntimeError("can't start new thread")
        start(thread)

    for number in itertools.count(1):
        with job_in(folder / str(number)) as job:
            point = Interrupt(number, job.mirror.wait)

            def save(point: Interrupt = point, job: Job = job) -> None:
                assert isinstance(point.during(lambda: job.save(wait=False)), RuntimeError)

            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", refuse)
                in_a_thread(save)
            if not point.has_come:
                break
            job.go_on()
