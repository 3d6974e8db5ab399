"""What the host can ask of the enclave: each asks for the key, has the pool opened, and runs."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from plinius.attest.attesters import Platform
from plinius.attest.release import Grant
from plinius.darknet.cfg import Config, parse
from plinius.enclave import inference
from plinius.enclave.anchoring import BrokerAnchor, tpm_anchor
from plinius.enclave.hosted import HostedPool
from plinius.enclave.job import Job, decide_threads
from plinius.enclave.provisioning import Ordered, keep_key, recall_key, request_key, request_ordered_key
from plinius.enclave.trainer import train as run_training
from plinius.mirror.anchoring import Anchor
from plinius.pool import PoolFile
from plinius.wire import Channel, Infer, Inferred, Notice, PoolOpened, SealedKey, Stop, Train, Trained, TrainManifest


@dataclass(frozen=True)
class Work:
    """What the host handed over beside a command.

    Attributes:
        channel: To the host.
        platform: What the enclave proves itself with, and its machine's TPM.
        open_pool: Has the host open the pool.
        data_fd: The sealed data set.
    """

    channel: Channel
    platform: Platform
    open_pool: Callable[[], HostedPool]
    data_fd: int

    @contextmanager
    def pool(self) -> Iterator[PoolFile]:
        """Has the pool opened, and tells the host what its medium survives."""
        with closing(self.open_pool()) as pool:
            self.channel.send(PoolOpened(pool.mapping.medium, pool.mapping.durability, self.platform.attester.tee))
            yield pool

    def stop_requested(self) -> bool:
        """Whether the host wants a clean stop; that it is gone ends the training as well."""
        waiting = select.poll()  # select would refuse a descriptor above 1023
        waiting.register(self.channel, select.POLLIN)
        if not waiting.poll(0):
            return False
        self.channel.receive(Stop)
        return True

    def tell_what_is_not_applied(self, config: Config) -> None:
        """Says which keys of the cfg are read and have no effect."""
        if config.not_applied:
            text = f"read from the cfg, not applied (data augmentation): {', '.join(config.not_applied)}"
            self.channel.send(Notice(text))


def train(work: Work, command: Train, cfg: bytes) -> Trained:
    """Trains what the host's user asks for, with the key of the owner on this machine."""
    config = parse(cfg, command.cfg_name)
    grant = request_key(work.channel, work.platform.attester)
    with work.pool() as pool:
        work.tell_what_is_not_applied(config)
        job = Job.decide(command, cfg, config, pool, grant)
        torch.set_num_threads(job.threads)
        return run_training(job, pool, grant.key, work.data_fd, work.channel.send, work.stop_requested)


def train_manifest(work: Work, command: TrainManifest, ordered: Ordered) -> Trained:
    """Trains what the owner's manifest says, with the key from her broker, or one that this machine's TPM kept."""
    manifest = ordered.manifest
    config = parse(manifest.cfg, manifest.cfg_name)
    if command.sealed_key:
        grant, broker = recall_key(work.platform, command.sealed_key, ordered), None
    else:
        grant, broker = request_ordered_key(work.channel, work.platform.attester, ordered)
    anchor = _anchor(work, grant, ordered, broker)
    if broker is not None and grant.terms.seal_to_pcrs:
        # After the broker was told of an anchor in the TPM: without her, none is made, and this one must be there.
        work.channel.send(SealedKey(keep_key(work.platform, grant, broker.head(), ordered)))
    with work.pool() as pool:
        work.tell_what_is_not_applied(config)
        job = Job.ordered(manifest, command, config, pool, grant)
        torch.set_num_threads(job.threads)

        def stop() -> bool:
            return (broker is not None and broker.stop_requested) or work.stop_requested()

        return run_training(job, pool, grant.key, work.data_fd, work.channel.send, stop, anchor)


def _anchor(work: Work, grant: Grant, ordered: Ordered, broker: BrokerAnchor | None) -> Anchor | None:
    """Who knows how new the pool is: whom the owner wants."""
    match grant.terms.anchor:
        case "tpm":
            return tpm_anchor(
                work.platform, grant, ordered.manifest.job_id, broker, lambda text: work.channel.send(Notice(text))
            )
        case "broker":
            return broker
        case "none":
            return None


def infer(work: Work, command: Infer, cfg: bytes) -> Inferred:
    """Classifies the data with the model in the pool."""
    config = parse(cfg, command.cfg_name)
    grant = request_key(work.channel, work.platform.attester)
    with work.pool() as pool:
        torch.set_num_threads(decide_threads(command.threads, {}))
        return inference.infer(config, cfg, pool, grant, (work.data_fd, command.data_name), work.channel.send)
