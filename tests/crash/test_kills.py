"""SIGKILL at random moments of a small training: of the enclave, of the host, of both. Nothing is ever lost."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jobs import CFG, Job, Running, child_of, is_alive, must, wait_for
from plinius.darknet import parse
from plinius.darknet.model import restore_model
from plinius.owner.export import export
from plinius.pool import Pool, status
from plinius.seal import Key

STEPS = 400  # so many that a fast machine is not through before a late kill in each life
KILLS_A_POOL = 10
STARTUP_S = 3.0
TARGETS = ("enclave", "host", "both")


@dataclass(frozen=True)
class Kill:
    """Whom to kill, and when: a moment after the nth message of a type in the enclave's life.

    Attributes:
        target: enclave, host, or both.
        message: Its type; "start" for the start of the process.
        nth: Counted in one life.
        share: Where in what comes next, from 0 to 1.
        saving: Not anywhere in the next step, but in its save.
    """

    target: str
    message: str
    nth: int
    share: float
    saving: bool

    @classmethod
    def any(cls, chance: random.Random, *, first: bool) -> Kill:
        """A random kill; the first one of a pool strikes while the pool is made or loaded, or before."""
        kinds = {"start": 1, "PoolOpened": 2, "Loading": 1} if first else {"start": 2, "Started": 2, "Progress": 9}
        (message,) = chance.choices(list(kinds), list(kinds.values()))
        nth = chance.randint(1, 4) if message == "Progress" else 1
        return cls(chance.choice(TARGETS), message, nth, chance.random(), chance.random() < 0.5)

    def delay_s(self, message: dict[str, Any]) -> float:
        """How long after the message it strikes: anywhere in what comes next."""
        if self.message == "start":
            return self.share * STARTUP_S
        if message["type"] != "Progress":
            return self.share * 0.02
        if self.saving:
            return message["step_s"] - (1 - self.share) * message["save_s"]
        return self.share * message["step_s"]

    @property
    def moment(self) -> str:
        """Where it strikes, in a word."""
        if self.message == "Progress":
            return "save" if self.saving else "step"
        moments = {"start": "start-up", "PoolOpened": "opening", "Loading": "loading", "Started": "first step"}
        return moments[self.message]


@dataclass
class Campaign:
    """One training that is killed again and again, and then left to end.

    Attributes:
        job: Files of its own.
        kills: What is still to come.
        struck: Kills by target and by moment.
        ahead: How far beyond the newest durable step that was reported each life went on.
    """

    job: Job
    kills: list[Kill]
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    ahead: list[tuple[str, int]] = field(default_factory=list)
    running: Running | None = None
    durable: int = 0
    killed: str = ""

    def run(self) -> None:
        try:
            ended = False
            while self.kills and not ended:
                ended = not self._strike(self.kills.pop(0))
            if not ended:
                assert any(message["type"] == "Trained" for message in self._messages())
            assert self._host().end().code == 0
        finally:
            if self.running:
                self.running.host.kill()

    def _strike(self, kill: Kill) -> bool:
        """Kills once; whether it could, before the training was at its end."""
        enclave = self._host().enclave()
        message = self._await(kill)
        if message is None:
            return False
        time.sleep(kill.delay_s(message))
        self.killed = kill.target
        host = self._host()
        victims = {"enclave": [enclave], "host": [host.pid], "both": [host.pid, enclave]}[kill.target]
        for victim in victims:
            with suppress(ProcessLookupError):  # an enclave that died with its host a moment ago
                os.kill(victim, signal.SIGKILL)
        self.struck[kill.target, kill.moment] += 1
        # What was on its way is read to the end: it was reported, so it must not be lost.
        if kill.target == "enclave":
            return any(message["type"] == "Notice" and "died" in message["text"] for message in self._messages())
        for _ in self._messages():
            pass
        host.end()
        self.running = None
        return True

    def _await(self, kill: Kill) -> dict[str, Any] | None:
        if kill.message == "start":
            return {}
        seen = 0
        for message in self._messages():
            if message["type"] == "Trained":
                return None
            # A pool that was loaded in an earlier life says `Started` at once.
            seen += message["type"] in (kill.message, {"Loading": "Started"}.get(kill.message))
            if seen == kill.nth:
                return message
        raise AssertionError(f"it ended before {kill}: {self._host().end()}")

    def _messages(self) -> Iterator[dict[str, Any]]:
        for message in self._host().messages():
            if message["type"] == "Progress":
                self.durable = message["durable_step"]
            elif message["type"] == "Started" and self.killed:
                self.ahead.append((self.killed, message["step"] - self.durable))
                self.durable = message["step"]
            yield message

    def _host(self) -> Running:
        if self.running is None:
            self.running = Running(*self.job.train("--steps", STEPS, "--restarts", 1 << 30))
        return self.running


def contents(job: Job, folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """The exported weights, and the bytes of everything that training goes on from."""
    cfg, output = job.cfg.read_bytes(), folder / f"{job.pool.name}.weights"
    export(str(job.cfg), str(job.pool), str(job.key), str(output))
    with Pool(job.pool) as pool:
        training, step = restore_model(parse(cfg, "cfg"), cfg, pool, Key.load(job.key))
    assert step == STEPS
    tensors = {f"network {name}": tensor for name, tensor in training.network.state_dict().items()}
    for index, state in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer {index} {name}": tensor for name, tensor in state.items()}
    assert any(name.startswith("optimizer") for name in tensors)
    return output.read_bytes(), {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def slow_job(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Its step takes some 20 ms: longer than a host that was killed takes to be gone."""
    cfg = tmp_path_factory.mktemp("slow") / "net.cfg"
    cfg.write_text(CFG.format(batch=64, learning_rate=0.05, filters=64))
    return Job(cfg, files / "data.sealed", files / "job.key", cfg.with_suffix(".pool"))


@pytest.fixture
def kills_seed(request: pytest.FixtureRequest) -> int:
    chosen: int | None = request.config.getoption("--kills-seed")
    return secrets.randbelow(1 << 32) if chosen is None else chosen


@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore:rollback is not detected")
def test_nothing_is_lost_wherever_kill_9_strikes(
    request: pytest.FixtureRequest, slow_job: Job, folder: Path, kills_seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted: int = request.config.getoption("--kills")
    chance = random.Random(kills_seed)  # noqa: S311 (a plan that can be repeated)
    left_alone = slow_job.but(pool=folder / "left-alone.pool")
    must(*left_alone.train("--steps", STEPS, "--json"))
    expected = contents(left_alone, folder)

    def campaign(number: int) -> Campaign:
        count = min(KILLS_A_POOL, wanted - number * KILLS_A_POOL)
        plan = [Kill.any(chance, first=index == 0) for index in range(count)]
        return Campaign(slow_job.but(pool=folder / f"killed-{number}.pool"), plan)

    campaigns = [campaign(number) for number in range(-(-wanted // KILLS_A_POOL))]
    try:
        # Two at a time: starting an enclave keeps one core busy for seconds.
        with ThreadPoolExecutor(2) as workers:
            list(workers.map(Campaign.run, campaigns))
        for killed in campaigns:
            assert status(killed.job.pool).state == "Idle"
            assert contents(killed.job, folder) == expected
            assert all(steps >= 0 for _, steps in killed.ahead), f"durable steps were lost: {killed.ahead}"
            assert all(steps <= 1 for _, steps in killed.ahead), f"a step beyond the next: {killed.ahead}"
        struck = sum((killed.struck for killed in campaigns), Counter())
        assert struck.total() == wanted, "the training was over before all kills had struck"
    except BaseException:
        with capsys.disabled():
            print(f"\nkill test failed; again with: --kills {wanted} --kills-seed {kills_seed}")
        raise
    with capsys.disabled():
        print("\n" + summary(campaigns, struck))


def summary(campaigns: list[Campaign], struck: Counter[tuple[str, str]]) -> str:
    def by(place: int) -> str:
        counts: Counter[str] = Counter()
        for kill, count in struck.items():
            counts[kill[place]] += count
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))

    resumed = Counter(steps for killed in campaigns for _, steps in killed.ahead)
    return (
        f"{struck.total()} kills ({by(0)}; aimed at {by(1)}): resumed at the last durable step {resumed[0]} times, "
        f"at the next {resumed[1]} times; final bytes equal"
    )


@pytest.mark.parametrize("module", ["plinius.enclave.main", "plinius.owner.main"])
def test_the_trusted_processes_die_with_their_host(job: Job, module: str) -> None:
    with Running(*job.train()) as running:
        child = wait_for(lambda: child_of(running.pid, module))
        # It is still importing, and would go on with that for seconds before it looked at its channel.
        wait_for(lambda: ignores_the_keyboard(child))
        running.host.kill()
        killed_s = time.monotonic()
        wait_for(lambda: not is_alive(child), within_s=10)
        assert time.monotonic() - killed_s < 1


def ignores_the_keyboard(process: int) -> bool:
    """Whether it has come to the end of its first lines."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(ignored >> (signal.SIGINT - 1) & 1)
