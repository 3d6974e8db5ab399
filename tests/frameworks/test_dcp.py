"""torch.distributed.checkpoint over a mirror: round trips, refusals, and a loop that is killed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plinius
import pytest
from killing import Example, check_resumes_exactly
from plinius.errors import ConfigError, IntegrityError

torch = pytest.importorskip("torch")
import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from plinius.frameworks.dcp import MirrorLoadPlanner, MirrorReader, MirrorWriter  # noqa: E402
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def storage(folder: Path, key: Path) -> Iterator[tuple[plinius.Pool, plinius.Key]]:
    """An open pool and its key."""
    with plinius.Pool(folder / "job.pool") as pool:
        yield pool, plinius.Key.load(key)


def trained(seed: int) -> tuple[Any, Any]:
    """A model and an optimizer after two steps."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2, bias=False))
    optimizer = torch.optim.Adam([{"params": model[0].parameters(), "lr": seed}, {"params": model[2].parameters()}])
    for _ in range(2):
        model(torch.randn(8, 5)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def load(state: dict[str, Any], storage: Any, **options: Any) -> None:
    dcp.load(state, storage_reader=MirrorReader(*storage), planner=MirrorLoadPlanner(), **options)


def test_model_and_optimizer_come_back_exactly(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pickle(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle was used")

    for module, name in ((torch, "save"), (torch, "load"), (pickle, "loads"), (pickle, "load")):
        monkeypatch.setattr(module, name, no_pickle)
    model, optimizer = trained(1)
    of_model, of_optimizer = get_state_dict(model, optimizer)
    plain = {"step": 7, "name": "a", "list": [1, 2.5, None, True], "tuple": (1, "b"), "big": 1 << 80}
    dcp.save({"model": of_model, "optimizer": of_optimizer, "plain": plain}, storage_writer=MirrorWriter(*storage))

    model2, optimizer2 = trained(2)
    other_model, other_optimizer = get_state_dict(model2, optimizer2)
    state = {
        "model": other_model,
        "optimizer": other_optimizer,
        "plain": {"step": 0, "name": "", "list": [0, 0.0, 0, 0], "tuple": (0, ""), "big": 0},
    }
    before = torch.get_rng_state()
    load(state, storage)
    assert torch.equal(torch.get_rng_state(), before)
    set_state_dict(model2, optimizer2, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    assert state["plain"] == plain
    for ours, theirs in ((model, model2), (optimizer, optimizer2)):
        torch.testing.assert_close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0)


def test_checkpoints_are_told_apart_by_their_id_and_replaced(storage: Any) -> None:
    for value, name in ((1.0, "a"), (2.0, "b"), (3.0, "a")):
        dcp.save({"x": torch.full((3,), value)}, checkpoint_id=name, storage_writer=MirrorWriter(*storage))
    for value, name in ((3.0, "a"), (2.0, "b")):
        state = {"x": torch.zeros(3)}
        load(state, storage, checkpoint_id=name)
        assert state["x"].tolist() == [value] * 3


class Custom:
    """Nothing that comes back without pickle."""


def refusal(error: Any, kind: type = ConfigError) -> str:
    """What lies behind torch's own exception."""
    (cause, _) = next(iter(error.value.failures.values()))
    assert isinstance(cause, kind)
    return str(cause)


def test_what_is_not_plain_is_refused_with_its_name(storage: Any) -> None:
    with pytest.raises(dcp.api.CheckpointException) as error:
        dcp.save({"a": {"b": Custom()}}, storage_writer=MirrorWriter(*storage))
    assert "a.b: a Custom cannot be mirrored" in refusal(error)


def test_the_default_planner_is_refused_since_it_unpickles(storage: Any) -> None:
    dcp.save({"step": 1}, storage_writer=MirrorWriter(*storage))
    with pytest.raises(dcp.api.CheckpointException) as error:
        dcp.load({"step": 0}, storage_reader=MirrorReader(*storage))
    assert "planner=MirrorLoadPlanner()" in refusal(error)


def test_another_dtype_and_a_missing_checkpoint_are_refused(storage: Any) -> None:
    assert not MirrorReader(*storage).exists()
    with pytest.raises(dcp.api.CheckpointException) as error:
        load({"x": torch.zeros(3)}, storage)
    assert "there is no checkpoint 'dcp'" in refusal(error)
    dcp.save({"x": torch.zeros(3)}, storage_writer=MirrorWriter(*storage))
    with pytest.raises(dcp.api.CheckpointException) as error:
        load({"x": torch.zeros(3, dtype=torch.float64)}, storage)
    assert "x: dtype torch.float32 then, torch.float64 now" in refusal(error)


def test_another_key_is_refused_as_such(storage: Any) -> None:
    dcp.save({"step": 1}, storage_writer=MirrorWriter(*storage))
    with pytest.raises(dcp.api.CheckpointException) as error:
        load({"step": 0}, (storage[0], plinius.Key.generate()))
    assert "was sealed with key" in refusal(error, IntegrityError)


def test_several_processes_are_refused(storage: Any) -> None:
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    dist.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=2)
    try:
        for kind in (MirrorWriter, MirrorReader):
            with pytest.raises(ConfigError, match="2 processes"):
                kind(*storage)
    finally:
        dist.destroy_process_group()


def test_a_killed_loop_ends_with_the_same_bytes(folder: Path, key: Path) -> None:
    check_resumes_exactly(Example("dcp_loop.py", folder, key, 60), kills=(3, 2))
