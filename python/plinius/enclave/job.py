"""The job: what the host asked for, held against what the pool says the job is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from plinius.attest.manifest import JobManifest
from plinius.attest.release import Grant
from plinius.darknet.cfg import Config
from plinius.darknet.training import MIRROR_NAME, check_images, digest
from plinius.dataset import Header
from plinius.errors import ConfigError, IntegrityError
from plinius.limits import MAX_KEPT, MAX_SEED, MAX_STEPS, MAX_THREADS
from plinius.mirror import Facts, read_facts
from plinius.pool import PoolFile
from plinius.wire import Train, TrainManifest

_DEFAULT_SEED: Final = 1


@dataclass(frozen=True)
class Job:
    """A training job, every option decided.

    Attributes:
        config: The network.
        steps: Total optimizer steps.
        every: Mirror every so many steps.
        keep: How many generations stay in the pool.
        seed: Of initialization, order and dropout.
        threads: Of the framework.
        reveal_loss: Report the loss to the untrusted host.
        data_name: What error messages call the data set.
        facts: What identifies the job, sealed into its mirror.
        known: The facts that the pool holds already; empty for a new job.
        data_id: The data set that the owner's manifest names; None: whichever it began with.
    """

    config: Config
    steps: int
    every: int
    keep: int
    seed: int
    threads: int
    reveal_loss: bool
    data_name: str
    facts: Facts
    known: Facts
    data_id: str | None = None

    @classmethod
    def decide(cls, asked: Train, cfg: bytes, config: Config, pool: PoolFile, grant: Grant) -> Job:
        """Takes each option from the request, else from the pool's job, else from the cfg or a default.

        Raises:
            ConfigError: The cfg or the seed is not the job's, or an option is out of range.
            IntegrityError: The key is not the job's, or the pool was changed.
        """
        known = read_facts(pool, grant.key, MIRROR_NAME) or {}
        _refuse_difference(known, "cfg", digest(cfg), f"{asked.cfg_name} is not the cfg of the job in {pool.path}")
        seed = _option("seed", asked.seed, known, _DEFAULT_SEED, (0, MAX_SEED))
        _refuse_difference(known, "seed", seed, f"--seed {seed}: the job in {pool.path} has seed {known.get('seed')}")
        steps = _option("steps", asked.steps, known, config.net.max_batches, (1, MAX_STEPS))
        every = _option("every", asked.every, known, 1, (1, MAX_STEPS))
        keep = _option("keep", asked.keep, known, 1, (1, MAX_KEPT))
        threads = decide_threads(asked.threads, known)
        options = {"seed": seed, "steps": steps, "every": every, "keep": keep, "threads": threads}
        facts: Facts = {"cfg": digest(cfg), **options}
        return cls(config, steps, every, keep, seed, threads, "loss" in grant.reveal, asked.data_name, facts, known)

    @classmethod
    def ordered(cls, it: JobManifest, asked: TrainManifest, config: Config, pool: PoolFile, grant: Grant) -> Job:
        """Takes every option from the owner's manifest.

        Raises:
            ConfigError: The pool holds another job.
            IntegrityError: The key is not the job's, or the pool was changed.
        """
        names = (it.cfg_name, asked.data_name, asked.pool_name)
        job = cls.decide(Train(*names, it.steps, it.every, it.seed, it.threads, it.keep), it.cfg, config, pool, grant)
        job_id = it.job_id.hex()
        _refuse_difference(job.known, "job", job_id, f"the manifest is not of the job in {pool.path}")
        return replace(job, facts={**job.facts, "job": job_id}, data_id=it.data)

    def bound_to(self, data_id: str) -> Job:
        """The same job with its data set among its facts.

        Raises:
            ConfigError: The job in the pool was started on other data, or the owner's manifest names another.
        """
        if self.data_id not in (None, data_id):
            raise ConfigError(f"{self.data_name} is the data set {data_id}, the manifest names {self.data_id}")
        _refuse_difference(
            self.known,
            "data",
            data_id,
            f"the data set {data_id} is not the job's, which is {self.known.get('data')}",
        )
        return replace(self, facts={**self.facts, "data": data_id})

    def accept(self, header: Header) -> None:
        """Refuses a data set, before it is loaded, that is not the job's or that the network cannot take.

        Raises:
            ConfigError: It is not, or cannot.
        """
        check_images(self.config, header.image_shape)
        self.bound_to(header.id.hex())

    def expect(self, restored: Facts | None) -> None:
        """Refuses a state that is not that of the job which was decided: the pool is read twice in between.

        Raises:
            IntegrityError: The pool was changed meanwhile.
        """
        if (restored or {}) != self.known:
            raise IntegrityError("the pool was changed while it was read: the job and its state do not belong together")

    @property
    def batch(self) -> int:
        """Records a step."""
        return self.config.net.batch


def decide_threads(asked: int | None, known: Facts) -> int:
    """The threads of the framework: what was asked for, else the job's, else one for each core.

    Raises:
        ConfigError: The number is out of range.
    """
    return _option("threads", asked, known, len(os.sched_getaffinity(0)), (1, MAX_THREADS))


def _option(name: str, asked: int | None, known: Mapping[str, object], default: int, limits: tuple[int, int]) -> int:
    stored = known.get(name)
    value = asked if asked is not None else stored if isinstance(stored, int) else default
    low, high = limits
    if not low <= value <= high:
        raise ConfigError(f"--{name} {value}: choose a number from {low} to {high}")
    return value


def _refuse_difference(known: Mapping[str, object], name: str, value: object, message: str) -> None:
    if known and known.get(name) != value:
        raise ConfigError(f"{message}; name another --pool to start a new job")
