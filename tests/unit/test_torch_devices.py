"""Copies of a GPU's tensors: their order, with what stands in for a GPU, and the real thing where there is one."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from plinius import Key, Mirror, Pool, state
from plinius.frameworks.torch_devices import DeviceCopies, fetched
from plinius.state import NoCopies

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


class OnDevice(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    log: list[str]

    def get_device(self) -> int:
        return 0

    def record_stream(self, stream: Any) -> None:
        self.log.append("kept until it is copied")


class Recorded:
    """torch.cuda with streams that only write down what they are told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events = 0

    def is_available(self) -> bool:
        return False

    def current_stream(self, device: int) -> Any:
        return Stream(self, "compute")

    def Stream(self, device: int) -> Any:  # noqa: N802 (torch's name)
        return Stream(self, "copy")

    @contextmanager
    def stream(self, stream: Any) -> Any:
        self.log.append(f"on {stream.name}:")
        yield


class Stream:
    def __init__(self, cuda: Recorded, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: Any) -> None:
        self.cuda.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: Any) -> None:
        self.cuda.log.append(f"{self.name} waits for event {event.number}")

    def record_event(self) -> Any:
        self.cuda.events += 1
        return Event(self.cuda, self.cuda.events)


class Event:
    def __init__(self, cuda: Recorded, number: int) -> None:
        self.cuda, self.number = cuda, number

    def synchronize(self) -> None:
        self.cuda.log.append(f"host waits for event {self.number}")


def test_what_the_forward_pass_writes_is_copied_first_and_only_a_step_waits_for_the_rest() -> None:
    cuda = Recorded()
    copies = DeviceCopies(cuda)
    tensors = {}
    for name in ("owned", "buffer"):
        tensors[name] = torch.full((4,), len(name)).as_subclass(OnDevice)
        tensors[name].log = cuda.log
    with copies.collecting():
        hosts = {name: fetched(tensor, name) for name, tensor in tensors.items()}
    assert fetched(tensors["owned"], "owned") is None, "nobody collects"
    copies.start({"owned"})
    copy = ["copy waits for compute", "on copy:", "kept until it is copied"]
    assert cuda.log == [*copy, "compute waits for event 1", *copy]
    assert [host.tolist() for host in hosts.values() if host is not None] == [[5] * 4, [6] * 4]
    cuda.log.clear()
    copies.wait_for_others()
    assert cuda.log == ["host waits for event 1"]
    copies.hold_step()
    copies.wait()
    assert cuda.log[1:] == ["compute waits for event 2", "host waits for event 1", "host waits for event 2"]


def test_host_memory_is_used_again_and_given_back() -> None:
    copies = DeviceCopies(Recorded())
    tensor = torch.zeros(4).as_subclass(OnDevice)
    with copies.collecting():
        first = copies.fetch(tensor, "a")
    with copies.collecting():
        assert copies.fetch(tensor, "a") is first
    with copies.collecting():
        pass
    with copies.collecting():
        assert copies.fetch(tensor, "a") is not first


class Started(NoCopies):
    """Notes which tensors may be copied last, because a held step alone writes them."""

    def __init__(self) -> None:
        self.last: list[int] = []

    def start(self, owned: Collection[Hashable]) -> None:
        self.last.append(len(owned))


@pytest.mark.parametrize(("runs_hooks", "last"), [(True, [1, 1]), (False, [1, 0])])
def test_what_an_optimizer_owns_whose_step_cannot_be_held_is_copied_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runs_hooks: bool, last: list[int]
) -> None:
    class Wrapped(torch.optim.SGD):
        pass

    model = torch.nn.Linear(4, 4, bias=False)
    optimizer = Wrapped(model.parameters(), lr=0.1)
    if not runs_hooks:
        Wrapped.step = lambda self, closure=None: None  # type: ignore[method-assign]
    started = Started()
    monkeypatch.setattr(state, "device_copies", lambda: started)
    with Pool(folder / "job.pool") as pool:
        mirror = Mirror(pool, Key.generate(), name="net", model=model, optimizer=optimizer)
        mirror.save(1)
        mirror.save(2, wait=False)
        mirror.close()
    assert started.last == last


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("wait", [True, False])
def test_a_training_on_a_gpu_is_mirrored_exactly(folder: Path, wait: bool) -> None:
    key = Key.generate()

    def job(pool: Pool, seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer, Mirror]:
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(64, 2048), torch.nn.BatchNorm1d(2048), torch.nn.Dropout(0.1)]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(2048, 2048), torch.nn.Linear(2048, 2)).cuda()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        return model, optimizer, Mirror(pool, key, name="gpu", model=model, optimizer=optimizer)

    def state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        tensors = [*model.state_dict().values(), *(it for one in optimizer.state.values() for it in one.values())]
        return [tensor.detach().cpu().clone() for tensor in tensors]

    with Pool(folder / "gpu.pool") as pool:
        model, optimizer, mirror = job(pool, 1)
        for step in range(1, 21):
            optimizer.zero_grad()
            model(torch.randn(256, 64, device="cuda")).square().mean().backward()
            optimizer.step()
            if step == 20:
                then = state(model, optimizer)
            mirror.save(step, wait=wait)
        for _ in range(3):  # while the last one is on its way
            optimizer.zero_grad()
            model(torch.randn(256, 64, device="cuda")).square().mean().backward()
            optimizer.step()
        draws = torch.randn(5, device="cuda")
        mirror.close()
        again, its_optimizer, other = job(pool, 2)
        again(torch.randn(256, 64, device="cuda")).sum().backward()
        its_optimizer.step()
        assert other.restore() == 20
        assert all(map(torch.equal, state(again, its_optimizer), then))
        for _ in range(3):
            its_optimizer.zero_grad()
            again(torch.randn(256, 64, device="cuda")).square().mean().backward()
            its_optimizer.step()
        assert torch.equal(torch.randn(5, device="cuda"), draws)
