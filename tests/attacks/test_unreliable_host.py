"""Attack: a host, or a network, that drops, delays, repeats and reorders. Stopped by: each request is answered once.

A line that is cut at random costs time and nothing else; messages out of their turn are refused.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from desks import Desk, made
from jobs import Job, must


class CutLine:
    """A proxy that cuts each connection after a random number of bytes, or delays what passes."""

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self._target, self._random = target, random.Random(seed)  # noqa: S311 (where to cut, not a secret)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            # Enough for the handshake most of the time, never enough for the whole job.
            left = [self._random.randrange(1_000, 9_000)]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink, left), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, left: list[int]) -> None:
        try:
            while content := source.recv(4096):
                left[0] -= len(content)
                if left[0] < 0:
                    self.cuts += 1
                    break
                time.sleep(self._random.uniform(0, 0.003))
                sink.sendall(content)
        except OSError:
            pass
        for end in (source, sink):  # close alone would not wake the thread that reads the other way
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def desk(job: Job, tmp_path: Path) -> Desk:
    return made(tmp_path / "desk", job, steps=60)


def test_a_job_behind_a_line_that_is_cut_again_and_again_ends_with_the_same_bytes(desk: Desk, job: Job) -> None:
    must(*job.train("--steps", 60))
    pool = job.pool.with_suffix(".attested")
    with desk.broker() as address:
        host, port = address.removeprefix("tls://").rsplit(":", 1)
        line = CutLine((host, int(port)), seed=1)
        done = must(*desk.host(line.address, pool, "--json"))
        line.close()
    assert line.cuts > 3
    assert done.of("Trained")[0]["step"] == 60
    exported = []
    for each in (job.pool, pool):
        target = each.with_name(f"{each.name}.weights")
        must(*job.but(pool=each).export(target))
        exported.append(target.read_bytes())
    assert exported[0] == exported[1]
    events = [line.split(": ")[1] for line in must("audit", "--state", desk.folder / "state").out.splitlines()]
    assert events.count("advanced") == 60, "what was asked twice was done once"
