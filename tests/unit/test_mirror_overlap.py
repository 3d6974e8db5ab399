"""Saves in the background: what is sealed in its place, what waits, and what is found out."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from plinius import Key, Mirror, Pool, _core, state
from plinius.errors import ConfigError, PliniusError, PoolBusy, PoolError, PoolFull
from plinius.mirror import saving
from plinius.mirror.overlap import Flight, set_apart
from plinius.mirror.tracking import NOTE, Item

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


class Held:
    """Holds the sealing in the background up until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def writing(self, *arguments: Any) -> Any:
        held, real = self, _core.Writing(*arguments)

        class Writing:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def seal(self, *arguments: Any) -> Any:
                if threading.current_thread() is not threading.main_thread():
                    held.reached.set()
                    assert held.go_on.wait(60)
                return real.seal(*arguments)

        return Writing()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr(saving, "_core", SimpleNamespace(Writing=held.writing))
    yield held
    held.go_on.set()


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(folder / "job.pool") as pool:
        yield pool


class Job:
    """A model with batch normalization, an average of it, and an optimizer with momentum."""

    def __init__(self, pool: Pool, key: Key, seed: int = 1, **more: object) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 2))
        self.average = torch.optim.swa_utils.AveragedModel(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.mirror = Mirror(
            pool, key, name="net", model=self.model, optimizer=self.optimizer, average=self.average, **more
        )

    def backward(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(16, 8)).square().sum().backward()

    def step(self) -> None:
        self.backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def state(self) -> list[bytes]:
        tensors = [*self.model.state_dict().values(), *self.average.state_dict().values()]
        tensors += [it for state in self.optimizer.state.values() for it in state.values()]
        return [tensor.detach().numpy().tobytes() for tensor in tensors]


def test_a_save_in_the_background_holds_the_state_of_its_moment(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1)
    job.step()
    then = job.state()
    assert job.mirror.save(2, wait=False)
    assert held.reached.wait(60)
    job.backward()  # changes the batch norm's running averages
    job.average.update_parameters(job.model)
    assert job.mirror.latest_step() == 1, "it is not durable yet"
    held.go_on.set()
    job.mirror.wait()
    assert job.mirror.latest_step() == 2
    other = Job(pool, key, seed=2)
    other.step()
    assert other.mirror.restore() == 2
    assert other.state() == then


def test_a_save_in_the_background_is_finished_though_its_pool_is_closed(folder: Path, key: Key, held: Held) -> None:
    path = folder / "job.pool"
    with Pool(path) as pool:
        job = Job(pool, key)
        job.step()
        job.mirror.save(1)
        job.step()
        then = job.state()
        job.mirror.save(2, wait=False)
        assert held.reached.wait(60)
    with pytest.raises(PoolBusy):
        Pool(path)
    held.go_on.set()
    with opened_at_last(path) as pool:
        other = Job(pool, key, seed=2)
        other.step()
        assert other.mirror.restore() == 2
        assert other.state() == then


def opened_at_last(path: Path) -> Pool:
    for _ in range(600):
        with suppress(PoolBusy):
            return Pool(path)
        time.sleep(0.1)
    raise AssertionError("the save is not finished")


def test_the_optimizers_next_step_waits_until_all_is_sealed(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    job.backward()
    stepped = threading.Event()
    thread = threading.Thread(target=lambda: (job.optimizer.step(), stepped.set()))
    thread.start()
    assert not stepped.wait(0.3)
    held.go_on.set()
    assert stepped.wait(60)
    thread.join()
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


def clip_weights(job: Job) -> None:
    with torch.no_grad():
        job.model[0].weight.clamp_(-0.01, 0.01)


def write_state(job: Job) -> None:
    job.optimizer.state[job.model[0].weight]["exp_avg"].add_(1)


def write_data(job: Job) -> None:
    job.model[2].bias.data[0] = 7


def step_another_optimizer(job: Job) -> None:
    """Fused into the backward pass, say, and not given to the mirror."""
    other = torch.optim.SGD([job.model[2].bias], lr=1.0)
    job.model[2].bias.register_post_accumulate_grad_hook(lambda _: other.step())
    job.backward()


@pytest.mark.parametrize("write", [clip_weights, write_state, write_data, step_another_optimizer])
@pytest.mark.parametrize("after", ["wait", "save", "close", "restore"])
def test_a_write_into_what_is_being_sealed_is_found_out_by_the_next_call(
    pool: Pool, key: Key, held: Held, write: Callable[[Job], None], after: str
) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1)
    then = job.state()
    job.mirror.save(2, wait=False)
    assert held.reached.wait(60)
    write(job)
    held.go_on.set()
    calls: dict[str, Callable[[], Any]] = {
        "wait": job.mirror.wait,
        "save": lambda: job.mirror.save(3),
        "close": job.mirror.close,
        "restore": job.mirror.restore,
    }
    with pytest.raises(ConfigError, match="was written while it was being saved"):
        calls[after]()
    other = Job(pool, key, seed=2)
    other.step()
    assert other.mirror.restore() == 1, "the generation was given up"
    assert other.state() == then


def test_an_error_is_raised_once_and_the_next_save_is_as_any_other(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    clip_weights(job)
    held.go_on.set()
    with pytest.raises(ConfigError):
        job.mirror.wait()
    job.mirror.wait()
    job.mirror.save(2, wait=False)
    job.mirror.wait()
    assert job.mirror.latest_step() == 2


def test_a_save_that_failed_holds_no_step_up(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    clip_weights(job)
    stepped = threading.Event()
    thread = threading.Thread(target=lambda: (job.optimizer.step(), stepped.set()), daemon=True)
    thread.start()
    held.go_on.set()
    with pytest.raises(ConfigError):
        job.mirror.wait()
    assert stepped.wait(20)


def test_other_arrays_may_be_written_at_once(pool: Pool, key: Key, held: Held) -> None:
    plain, loose = np.zeros(300_000), torch.zeros(10)
    job = Job(pool, key, plain=plain, loose=[loose])
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    plain[:] = 1
    loose[:] = 1
    held.go_on.set()
    job.mirror.wait()
    job.mirror.restore()
    assert not plain.any()
    assert not loose.any()


def test_what_begins_where_an_optimizers_array_does_and_is_longer_may_be_written_at_once(
    pool: Pool, key: Key, held: Held
) -> None:
    memory = torch.zeros(1000)
    model = torch.nn.Linear(10, 1, bias=False)
    model.weight = torch.nn.Parameter(memory[:10].view(1, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mirror = Mirror(pool, key, name="net", model=model, optimizer=optimizer, loose=[memory])
    mirror.save(1, wait=False)
    assert held.reached.wait(60)
    memory[500] = 1
    held.go_on.set()
    mirror.wait()
    mirror.restore()
    assert not memory.any()


def test_an_optimizer_that_runs_no_hooks_is_copied(pool: Pool, key: Key, held: Held) -> None:
    class Wrapped(torch.optim.SGD):
        pass

    model = torch.nn.Linear(4, 4)
    optimizer = Wrapped(model.parameters(), lr=0.1)
    Wrapped.step = lambda self, closure=None: None  # type: ignore[method-assign]
    mirror = Mirror(pool, key, name="net", model=model, optimizer=optimizer)
    mirror.save(1, wait=False)
    assert held.reached.wait(60)
    with torch.no_grad():
        model.weight.zero_()
    held.go_on.set()
    mirror.wait()
    mirror.restore()
    assert model.weight.abs().sum() > 0


def test_an_optimizer_in_the_place_of_another_is_waited_for_and_the_other_no_longer(
    pool: Pool, key: Key, held: Held
) -> None:
    model = torch.nn.Linear(4, 4)
    model(torch.ones(1, 4)).sum().backward()
    first = torch.optim.Adam(model.parameters())
    optimizers = {"one": first}
    mirror = Mirror(pool, key, name="net", model=model, optimizers=optimizers)
    mirror.save(1)
    held.go_on.set()
    mirror.save(2, wait=False)
    mirror.wait()
    held.go_on.clear()
    optimizers["one"] = torch.optim.SGD(model.parameters(), lr=0.1)
    mirror.save(3, wait=False)
    first.zero_grad()
    assert not first._optimizer_step_pre_hooks
    threading.Timer(0.3, held.go_on.set).start()
    model(torch.ones(1, 4)).sum().backward()
    optimizers["one"].step()
    mirror.wait()
    assert mirror.latest_step() == 3


def test_an_optimizer_whose_arrays_are_all_copied_is_held_up_by_nothing(pool: Pool, key: Key, held: Held) -> None:
    model = torch.nn.Linear(4, 4, bias=False)
    model.weight = torch.nn.Parameter(torch.ones(4, 8)[:, ::2])  # it is not dense, so every capture copies it
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mirror = Mirror(pool, key, name="net", model=model, optimizer=optimizer)
    model(torch.ones(4)).sum().backward()
    mirror.save(1, wait=False)
    assert held.reached.wait(60)
    stepped = threading.Event()
    thread = threading.Thread(target=lambda: (optimizer.step(), stepped.set()))
    thread.start()
    assert stepped.wait(20)
    held.go_on.set()
    thread.join()
    assert (model.weight != 1).all()
    mirror.restore()
    assert (model.weight == 1).all()


def test_what_is_a_copy_already_is_not_copied_again() -> None:
    """A GPU may still be filling it; and what is copied is looked at as it was to be."""
    copied, live, empty = state.capture({"state": [np.ones(5), np.ones(7), np.ones(0)]}).buffers
    items = [Item(copied, watch=NOTE), Item(live, watch=NOTE), Item(empty, watch=NOTE)]
    apart = set_apart(items, {id(empty)}, {id(copied)}, _core.Fingerprints(), 1)
    assert apart[0] is items[0]
    assert apart[1].watch == NOTE
    assert apart[1].buffer.spec == live.spec
    assert not np.shares_memory(apart[1].buffer.memory, live.memory)
    assert apart[2] == Item(empty), "no bytes have no fingerprints"


def test_one_save_is_in_flight(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    threading.Timer(0.3, held.go_on.set).start()
    job.mirror.save(2, wait=False)
    assert job.mirror.latest_step() in (1, 2), "the first has ended before the second began"
    job.mirror.wait()
    assert job.mirror.latest_step() == 2


def test_a_full_pool_surfaces_at_the_next_call(folder: Path, key: Key) -> None:
    with Pool(folder / "small.pool", max_bytes=5 << 20) as pool:
        big = np.zeros(100_000)
        mirror = Mirror(pool, key, name="net", big=[big])
        mirror.save(1, wait=False)
        mirror.wait()
        big[:] = 1
        mirror.save(2, wait=False)
        with pytest.raises(PoolFull):
            mirror.save(3)
        assert mirror.latest_step() == 1


def test_a_failure_that_is_not_ours_is_told_too(pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(pool, key, name="net", a=np.zeros(5))
    monkeypatch.setattr(saving, "encode", lambda _: 1 / 0)
    mirror.save(1, wait=False)
    with pytest.raises(PliniusError, match="ZeroDivisionError"):
        mirror.wait()


def test_after_close_the_optimizer_is_as_it_was(pool: Pool, key: Key) -> None:
    job = Job(pool, key)
    job.step()
    before = len(job.optimizer._optimizer_step_pre_hooks)
    job.mirror.save(1, wait=False)
    assert len(job.optimizer._optimizer_step_pre_hooks) == before + 1
    job.mirror.close()
    assert len(job.optimizer._optimizer_step_pre_hooks) == before


def test_a_save_whose_start_is_interrupted_is_waited_for_like_any_other(
    pool: Pool, key: Key, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(pool, key)
    job.step()
    with monkeypatch.context() as patched:

        def start(flight: Flight) -> None:
            flight._thread.start()
            assert held.reached.wait(60)
            raise KeyboardInterrupt

        patched.setattr(Flight, "start", start)
        with pytest.raises(KeyboardInterrupt):
            job.mirror.save(1, wait=False)
    threading.Timer(0.3, held.go_on.set).start()
    job.mirror.save(2)
    assert job.mirror.latest_step() == 2
    job.mirror.wait()
    assert job.mirror.latest_step() == 2, "the first one came later"


def test_a_save_is_waited_for_again_when_the_waiting_was_interrupted(
    pool: Pool, key: Key, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    with monkeypatch.context() as patched:

        def land(_: Flight) -> None:
            raise KeyboardInterrupt

        patched.setattr(Flight, "land", land)
        with pytest.raises(KeyboardInterrupt):
            job.mirror.wait()
    threading.Timer(0.3, held.go_on.set).start()
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


def test_a_save_that_never_got_a_thread_holds_nobody_up(pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(pool, key)
    job.step()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job.mirror.save(1, wait=False)
    job.mirror.wait()
    job.step()
    job.mirror.save(2)
    assert job.mirror.latest_step() == 2


def test_a_thread_that_comes_after_its_save_was_broken_off_saves_nothing(
    pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt may come when the system has a thread already, and Python does not know it yet."""
    job, late = Job(pool, key), []
    with monkeypatch.context() as patched:

        def start(flight: Flight) -> None:
            late.append(flight._thread)
            raise KeyboardInterrupt

        patched.setattr(Flight, "start", start)
        with pytest.raises(KeyboardInterrupt):
            job.mirror.save(1, wait=False)
    job.mirror.wait()
    late[0].start()
    late[0].join()
    assert job.mirror.latest_step() is None


def test_a_save_whose_thread_comes_late_is_waited_for(pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    job, run = Job(pool, key), Flight._run

    def late(flight: Flight) -> None:
        time.sleep(0.3)
        run(flight)

    with monkeypatch.context() as patched:
        patched.setattr(Flight, "_run", late)
        job.mirror.save(1, wait=False)
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_whoever_waits_while_a_save_takes_off_does_not_end_it(
    pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A signal handler, or another thread: the system may take its time with the new one."""
    job, begin = Job(pool, key), threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if moment == "before":
            job.mirror.wait()
        begin(thread)
        if moment == "after":
            job.mirror.wait()

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", slowly)
        for step in (1, 2):
            job.step()
            job.mirror.save(step, wait=False)
    job.mirror.wait()
    assert job.mirror.latest_step() == 2


def test_who_runs_a_transaction_is_refused_and_does_not_wait_for_ever(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    with pool.transaction(), pytest.raises(PoolError, match="transactions are not nested"):
        job.mirror.save(1, wait=False)
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    held.go_on.set()
    with pool.transaction():
        for call in (job.mirror.wait, job.mirror.restore, lambda: job.mirror.save(2)):
            with pytest.raises(PoolError, match="transactions are not nested"):
                call()
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


def test_a_forked_child_is_held_up_by_nothing(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.backward()
    job.optimizer.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    child = os.fork()
    if child == 0:
        job.mirror._gate.wait()  # as an optimizer's step does
        job.mirror._flight.land()
        os._exit(0)
    assert wait_for_end(child) == 0
    held.go_on.set()
    job.mirror.wait()


def wait_for_end(child: int) -> int:
    """The status of a child, which has a minute."""
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]
