"""A training of a few milliseconds, and the hands of somebody who may change every byte of its pool."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from plinius import Key, Mirror, Pool
from plinius.mirror import RollbackWarning
from plinius.mirror.manifest import Head, parse_head

NAME = "net"
ENTRY = f"mirror/{NAME}"

Extents = list[tuple[int, int]]


class Training:
    """Model, optimizer, scheduler and generators, mirrored into a pool."""

    def __init__(
        self, pool: Path, key: Key, *, seed: int = 1, width: int = 8, name: str = NAME, max_bytes: int | None = None
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        seed_all(seed)
        layers = [torch.nn.Linear(4, width), torch.nn.Linear(width, width), torch.nn.Linear(width, width)]
        self.model = torch.nn.Sequential(*layers, torch.nn.Dropout(0.1), torch.nn.Linear(width, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=3)
        self.pool = Pool(pool, max_bytes=max_bytes)
        self.mirror = Mirror(
            self.pool,
            key,
            name=name,
            facts={"seed": seed},
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            generator=self.generator,
        )

    def restore(self) -> int | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            return self.mirror.restore()

    def train(self, first: int, last: int) -> None:
        """Takes the steps from ``first`` to ``last``, and saves after each."""
        for step in range(first, last + 1):
            self.step()
            self.mirror.save(step)

    def step(self) -> None:
        scale, shift = random.random(), np.random.rand()  # noqa: S311 (the generators that are mirrored)
        inputs = torch.randn(5, 4, generator=self.generator) * scale + shift
        self.optimizer.zero_grad()
        self.model(inputs).square().sum().backward()
        self.optimizer.step()
        self.scheduler.step()

    def weights(self) -> bytes:
        return b"".join(tensor.numpy().tobytes() for tensor in self.model.state_dict().values())

    def contents(self) -> tuple[object, ...]:
        """Everything that decides how training goes on."""
        optimizer = self.optimizer.state_dict()
        moments = {
            (index, name): value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
            for index, state in optimizer["state"].items()
            for name, value in state.items()
        }
        rates = [group["lr"] for group in optimizer["param_groups"]]
        generators = (random.getstate(), torch.get_rng_state().tolist(), self.generator.get_state().tolist())
        numpys = str(np.random.get_state())
        return self.weights(), moments, rates, self.scheduler.last_epoch, generators, numpys

    def zeroed(self) -> bool:
        return not any(self.weights())

    def close(self) -> None:
        self.pool.close()


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def trained(pool: Path, key: Key, steps: int, **options: int | str) -> tuple[object, ...]:
    """Leaves a closed pool with a mirror of so many steps, and returns what it holds."""
    training = Training(pool, key, **options)  # type: ignore[arg-type]
    training.train(1, steps)
    training.close()
    return training.contents()


def entry_of(pool: Path, name: str = ENTRY) -> tuple[bytes, Extents]:
    with Pool(pool) as opened:
        entry = opened.find(name)
    assert entry is not None
    return entry


def head_of(pool: Path) -> Head:
    return parse_head(entry_of(pool)[0])


def rewrite_entry(pool: Path, edit: Callable[[bytes, Extents], tuple[bytes, Extents]], name: str = ENTRY) -> None:
    """Replaces an entry of the catalog, checksums and all, as anybody can who has this package."""
    with Pool(pool) as opened:
        meta, extents = edit(*(opened.find(name) or (b"", [])))
        reserved = opened.reserve()
        reserved.commit(name, meta, [*extents, *reserved.more([1])])  # one more, which nobody names


def rewrite_head(pool: Path, edit: Callable[[list[Any]], None], name: str = ENTRY) -> None:
    """Replaces fields of the public head, given as nested lists."""

    def edited(meta: bytes, extents: Extents) -> tuple[bytes, Extents]:
        fields = msgspec.msgpack.decode(meta)
        edit(fields)
        return msgspec.msgpack.encode(fields), extents

    rewrite_entry(pool, edited, name)


def read_at(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, offset)


def write_at(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), content, offset)


def flip(path: Path, offset: int) -> None:
    write_at(path, offset, bytes([read_at(path, offset, 1)[0] ^ 0x10]))
