"""A training of no value, run before the sandbox: what it makes libraries import, open or start is there afterwards.

The first optimizer step alone imports hundreds of modules. So the real thing is run, on a tiny network, with a pool and
a data set in files without a name, and a key that seals nothing else. A test trains with every import and every opened
file noted after the sandbox: there is none.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Final

import numpy as np
import torch

from plinius.attest.release import KEMS, REVEALABLE, Grant, RecipientKey, Terms, seal_key
from plinius.darknet.cfg import parse
from plinius.dataset.packing import seal_into
from plinius.enclave.hosted import HostedPool, look_at
from plinius.enclave.inference import infer
from plinius.enclave.job import Job
from plinius.enclave.trainer import train
from plinius.seal import Key
from plinius.wire import CommitEntry, Entry, FindEntry, FromPool, Message, PoolDone, Space, TakeSpace, ToPool, Train

_NAME: Final = "the rehearsal"
_POOL_BYTES: Final = 1 << 20
_CFG: Final = b"""
[net]
batch=2
subdivisions=2
height=8
width=8
channels=1
learning_rate=0.01
momentum=0.9
decay=0.0005
policy=steps
steps=1
scales=.1
max_batches=2

[convolutional]
batch_normalize=1
filters=4
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[dropout]
probability=.5

[avgpool]

[connected]
output=4
activation=linear

[softmax]
"""


def rehearse() -> None:
    """Trains a step, resumes for a second one, and infers, with one thread; every random generator stays as it was."""
    key = _released(Key.generate())
    config = parse(_CFG, _NAME)
    with _generators_kept(), _unnamed_file() as data, _unnamed_file() as file:
        with os.fdopen(os.dup(data), "wb") as sealed:
            seal_into(sealed, np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, np.int64), key)
        os.ftruncate(file, _POOL_BYTES)
        pool = HostedPool(_Unkept().answer, file, _NAME, look_at(file, _NAME))
        grant = Grant(key, Terms(sorted(REVEALABLE)))
        for steps in (1, 2):
            asked = Train(_NAME, _NAME, _NAME, steps=steps, every=1, seed=1, threads=1)
            train(Job.decide(asked, _CFG, config, pool, grant), pool, key, data, _ignore, lambda: False)
        infer(config, _CFG, pool, grant, (data, _NAME), _ignore)
        pool.close()


class _Unkept:
    """Has a pool that is forgotten: its space is taken and never freed."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._end = 0

    def answer(self, request: ToPool) -> FromPool:
        """As a host would."""
        match request:
            case FindEntry(name=name):
                return self._entries.get(name, Entry(None, []))
            case TakeSpace(lengths=lengths):
                *begins, self._end = accumulate(lengths, initial=self._end)
                return Space(list(zip(begins, lengths, strict=True)))
            case CommitEntry(name=name, meta=meta, extents=extents):
                self._entries[name] = Entry(meta, extents)
        return PoolDone()


def _ignore(_: Message) -> None:
    """Nobody is told."""


def _released(key: Key) -> Key:
    """The key, as it arrives from an owner."""
    recipient = RecipientKey(KEMS[0])
    return recipient.open(seal_key(key, KEMS[0], recipient.public, bytes(32)), bytes(32)).key


@contextmanager
def _unnamed_file() -> Iterator[int]:
    file = os.memfd_create("plinius-rehearsal")
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """What a job saves of the process's random generators must not depend on the rehearsal; its warnings are not shown.

    One thread: a second one would be there before Landlock is, and so outside it.
    """
    python, numpy = random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
