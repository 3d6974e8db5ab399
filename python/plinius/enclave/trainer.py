"""The training loop: Algorithm 2 of the paper (PLINIUS, DSN 2021, section IV), on one page."""

from __future__ import annotations

import time
from collections.abc import Callable

from plinius.darknet.training import MIRROR_NAME, Training
from plinius.dataset import SealedDataset, batch_indices
from plinius.enclave.job import Job
from plinius.mirror import Mirror
from plinius.mirror.anchoring import Anchor
from plinius.pool import PoolFile
from plinius.seal import Key
from plinius.wire import Loading, Message, Progress, Started, Trained


def train(
    job: Job,
    pool: PoolFile,
    key: Key,
    data_fd: int,
    report: Callable[[Message], None],
    stop: Callable[[], bool],
    anchor: Anchor | None = None,
) -> Trained:
    """Trains until the job's last step, or until `stop` says so; every step that is reported durable is durable."""
    data = SealedDataset(
        pool, key, data_fd, name=job.data_name, progress=lambda *counts: report(Loading(*counts)), accept=job.accept
    )
    job = job.bound_to(data.id)
    training = Training.start(job.config, job.seed)
    state = training.state
    mirror = Mirror(
        pool, key, name=MIRROR_NAME, every=job.every, keep=job.keep, facts=job.facts, anchor=anchor, **state
    )

    restored = mirror.restore()  # mirror in
    job.expect(mirror.restored_facts)
    step = durable = restored or 0
    report(Started(step, job.steps, job.every, restored is not None, len(data)))
    while step < job.steps and not stop():
        began_s = time.perf_counter()
        images, labels = data.batch(batch_indices(len(data), job.seed, step, job.batch))  # decrypt
        loss = training.step(step, images, labels)
        step += 1
        trained_s = time.perf_counter()
        if mirror.save(step, force=step == job.steps):  # mirror out
            durable = step
        ended_s = time.perf_counter()
        revealed = loss.item() if job.reveal_loss else None
        report(Progress(step, durable, ended_s - began_s, ended_s - trained_s, revealed))
    if durable < step:
        mirror.save(step, force=True)
    return Trained(step, job.steps)
