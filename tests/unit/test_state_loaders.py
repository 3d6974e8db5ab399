"""Data loaders in the middle of an epoch: a restored run sees the batches and the noise of one that never stopped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_state_mirroring import Mirrored, mirror_in, mirror_out, refusal
from torch import nn
from torch.utils.data import Dataset, get_worker_info

StatefulDataLoader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

RECORDS, BATCH, EPOCHS = 20, 3, 3
STEPS_AN_EPOCH = -(-RECORDS // BATCH)


class Augmented(Dataset):
    """Records with noise from the global generators of the process that loads them."""

    def __len__(self) -> int:
        return RECORDS

    def __getitem__(self, index: int) -> torch.Tensor:
        return index + torch.randn(2) + np.random.rand() + random.random()  # noqa: S311

    def state_dict(self) -> dict[str, Any]:
        """In a worker, what the worker's generators must go on from; in the trainer they are the trainer's."""
        if get_worker_info() is None:
            return {}
        version, words, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(legacy=False),
            "python": [version, list(words), gauss],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            torch.set_rng_state(state["torch"])
            np.random.set_state(state["numpy"])
            version, words, gauss = state["python"]
            random.setstate((version, tuple(words), gauss))


def loader_of(workers: int, options: dict[str, Any]) -> Any:
    dataset: Any = Augmented()
    return StatefulDataLoader(dataset, BATCH, shuffle=True, num_workers=workers, **options)


def job(workers: int, options: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    model = nn.Linear(2, 1)
    loader = loader_of(workers, {name: make() for name, make in options.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return {"model": model, "loader": loader, "optimizer": optimizer, "progress": {"epoch": 0}}


def steps(state: dict[str, Any]) -> Iterator[bytes]:
    """Trains, and yields the parameters after every step, and once more after every epoch."""
    model, optimizer, progress = state["model"], state["optimizer"], state["progress"]

    def content() -> bytes:
        return model.weight.detach().numpy().tobytes()

    while progress["epoch"] < EPOCHS:
        for batch in state["loader"]:
            optimizer.zero_grad()
            noisy = batch + torch.randn_like(batch) * np.random.rand()
            torch.nn.functional.dropout(model(noisy), 0.5).square().mean().backward()
            optimizer.step()
            yield content()
        progress["epoch"] += 1
        yield content()


def seed(value: int) -> None:
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


OPTIONS: dict[str, dict[str, Callable[[], Any]]] = {
    "plain": {},
    "own generator": {"generator": lambda: torch.Generator().manual_seed(5)},
}


@pytest.mark.parametrize("stop", [1, 4, STEPS_AN_EPOCH, STEPS_AN_EPOCH + 1, STEPS_AN_EPOCH + 3])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_was_killed_ends_with_the_same_bytes(workers: int, options: str, stop: int) -> None:
    seed(1)
    run = job(workers, OPTIONS[options])
    whole, mirrored = [], None
    for step, content in enumerate(steps(run), 1):
        whole.append(content)
        if step == stop:
            mirrored = mirror_out(run)
    assert isinstance(mirrored, Mirrored)

    seed(2)
    again = job(workers, OPTIONS[options])
    mirror_in(again, mirrored)
    assert list(steps(again)) == whole[stop:]


def test_saving_again_before_the_first_batch_changes_nothing() -> None:
    seed(1)
    run = job(0, {})
    training = steps(run)
    for _ in range(3):
        next(training)
    mirrored = mirror_out(run)
    whole = list(training)

    seed(2)
    again, once_more = job(0, {}), job(0, {})
    mirror_in(again, mirrored)
    second = mirror_out(again)  # the loader makes its iterator for this
    mirror_in(once_more, second)
    assert list(steps(once_more)) == whole


def test_only_the_restored_iterator_leaves_the_generators_alone() -> None:
    seed(1)
    loader = loader_of(0, {})
    iterator = iter(loader)
    next(iterator)
    mirrored = mirror_out({"loader": loader})
    mirror_in({"loader": loader}, mirrored)
    mirror_in({"loader": loader}, mirrored)  # the first restore's iterator is never made
    before = torch.get_rng_state()
    iter(loader)
    assert torch.equal(torch.get_rng_state(), before)
    assert "_get_iterator" not in vars(loader)
    iter(loader)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_second_loader_does_not_turn_the_generators_back() -> None:
    """A loader that is iterated long after the restore must not bring back the states of that time."""
    seed(1)
    training, validation = loader_of(0, {}), loader_of(0, {})
    for loader in (training, validation):
        next(iter(loader))
    state = {"loaders": [training, validation]}
    mirror_in(state, mirror_out(state))
    next(iter(training))
    torch.rand(100)
    later = torch.get_rng_state()
    iter(validation)
    assert torch.equal(torch.get_rng_state(), later)


def test_a_generator_that_was_passed_beside_the_loader_is_kept_too() -> None:
    class Drawing:
        """A loader of another library, which draws from a generator that it does not show."""

        def __init__(self, hidden: torch.Generator) -> None:
            self.hidden = hidden

        def _get_iterator(self) -> Iterator[float]:
            return iter(torch.rand(3, generator=self.hidden).tolist())

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

    generator = torch.Generator().manual_seed(3)
    state = {"loader": Drawing(generator), "generator": generator}
    mirror_in(state, mirror_out(state))
    before = generator.get_state()
    state["loader"]._get_iterator()  # type: ignore[union-attr]
    assert torch.equal(generator.get_state(), before)


def test_a_loader_without_the_saved_generator_is_refused() -> None:
    with_one, without = loader_of(0, {"generator": torch.Generator()}), loader_of(0, {})
    iter(without)
    assert "loader/generator: 'torch.Generator on cpu' then, 'no generator' now" in refusal(
        {"loader": with_one}, {"loader": without}
    )
