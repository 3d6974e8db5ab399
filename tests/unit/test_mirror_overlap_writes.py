"""What may be written during a save in the background: what waits for it, what was copied, and what is found out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from averaged import Job
from holding import Held
from plinius import Key, Mirror, Pool, _core, state
from plinius.errors import ConfigError
from plinius.mirror.overlap import set_apart
from plinius.mirror.tracking import NOTE, Item

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


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


def test_after_close_the_optimizer_is_as_it_was(pool: Pool, key: Key) -> None:
    job = Job(pool, key)
    job.step()
    before = len(job.optimizer._optimizer_step_pre_hooks)
    job.mirror.save(1, wait=False)
    assert len(job.optimizer._optimizer_step_pre_hooks) == before + 1
    job.mirror.close()
    assert len(job.optimizer._optimizer_step_pre_hooks) == before
