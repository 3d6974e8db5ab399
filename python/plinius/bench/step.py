"""What saving costs a training: whole iterations with a save every few steps, beside iterations without any.

A block is some steps with a save after every so many of them. Before it comes a step with a save that does not count,
so that of a save that goes on in the background as much falls into the block as in a long training. Blocks of two ways
to save have a block without saving between them, to which both are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Final

from plinius.bench.clock import Turns, timed
from plinius.bench.folders import new_folder
from plinius.bench.methods import Method, durable_methods, without_their_warnings
from plinius.bench.nets import Net, tensors_of
from plinius.mirror import Mirror
from plinius.mirror.bounds import Bounds
from plinius.pool import Pool
from plinius.seal import Key

OURS: Final = "plinius"
OURS_BEHIND: Final = "plinius, wait=False"
OURS_ON_DISK: Final = "plinius, on the disk"
EVERY: Final = (1, 10, 50)
_LEAST_STEPS: Final = 2


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        pm: A folder on emulated or real PM, for our pool.
        disk: A folder for the files of the others.
        nets: How each network is made, when it is its turn.
        turns: How often everything is measured, for each network and each `every`.
        every: After how many steps there is a save.
    """

    pm: str
    disk: str
    nets: Sequence[Callable[[], Net]]
    turns: Turns
    every: Sequence[int] = EVERY


@dataclass(frozen=True)
class Way:
    """A way to save: what is called after a step, and what waits until it is durable."""

    name: str
    save: Callable[[int], object]
    finish: Callable[[], object]


@dataclass
class Measured:
    """What was measured with one network and one `every`.

    Attributes:
        net: Its name.
        batch: Records in a batch.
        state_bytes: The bytes of its tensors.
        every: After how many steps there was a save.
        plain_s: For each way, seconds of a step without saving, each a neighbour of one in `step_s`.
        step_s: For each way, seconds of a step, saves included.
        blocked_s: For each way, seconds that each save took until training could go on.
        bound_s: The bound of our save: its bytes sealed in cache, and copied to PM.
    """

    net: str
    batch: int
    state_bytes: int
    every: int
    plain_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    step_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    blocked_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    bound_s: list[float] = field(default_factory=list)


def measure(plan: Plan, progress: Callable[[str, float], None] = lambda *_: None) -> list[Measured]:
    """Measures all networks.

    Args:
        plan: What to measure.
        progress: Called after each round, with what is measured and how much of everything is over.
    """
    found = []
    with without_their_warnings():
        for number, make in enumerate(plan.nets):
            with (
                new_folder(plan.pm) as pm,
                new_folder(plan.disk) as disk,
                Pool(pm / "pool") as pool,
                Pool(disk / "pool") as on_disk,
            ):
                blocks = _Blocks(make(), pool, on_disk, disk)
                for place, every in enumerate(plan.every):
                    one = blocks.nothing(every)
                    for share in plan.turns:
                        blocks.round(one)
                        over = (number + (place + share) / len(plan.every)) / len(plan.nets)
                        progress(f"{one.net}, every {every}", over)
                    found.append(one)
    return found


class _Blocks:
    """The blocks of one network."""

    def __init__(self, net: Net, pool: Pool, on_disk: Pool, disk: Path) -> None:
        net.step()  # Makes the state of the optimizer.
        self.net = net
        self.steps = count(1)
        self.lengths = [tensor.nbytes for tensor in tensors_of(net).values()]
        key = Key.generate()
        self.bounds = Bounds(pool, key, self.lengths)
        self.plain = Way("", lambda _: None, lambda: None)
        self.ways = [*_our_ways(net, pool, on_disk, key), *(_peer(net, method, disk) for method in durable_methods())]
        for way in self.ways:  # Three saves each: they take memory, files and the space of two generations.
            self.block(way, self.nothing(1))
        self.bounds.copy_in_s()

    def nothing(self, every: int) -> Measured:
        """A record in which nothing is measured yet."""
        return Measured(self.net.name, self.net.batch, sum(self.lengths), every)

    def round(self, found: Measured) -> None:
        """Measures each way beside a block without saving."""
        ways = iter(self.ways)
        while pair := list(islice(ways, 2)):
            first_s = self.block(pair[0], found)
            plain_s = self.block(self.plain, found)
            seconds = [first_s, *(self.block(way, found) for way in pair[1:])]
            for way, step_s in zip(pair, seconds, strict=True):
                found.plain_s[way.name].append(plain_s)
                found.step_s[way.name].append(step_s)
        found.bound_s.append(self.bounds.seal_s() + self.bounds.copy_in_s())

    def block(self, way: Way, found: Measured) -> float:
        """Seconds of a step, saves included."""
        steps = max(_LEAST_STEPS, found.every)
        self.net.step()
        way.save(next(self.steps))

        def train() -> None:
            for number in range(1, steps + 1):
                self.net.step()
                step = next(self.steps)
                if number % found.every == 0:
                    found.blocked_s[way.name].append(timed(lambda step=step: way.save(step)))  # type: ignore[misc]

        seconds = timed(train)
        way.finish()
        return seconds / steps


def _our_ways(net: Net, pool: Pool, on_disk: Pool, key: Key) -> list[Way]:
    mirror = Mirror(pool, key, name="bench", **net.state)
    behind = Mirror(pool, key, name="bench-behind", **net.state)
    slow = Mirror(on_disk, key, name="bench", **net.state)
    return [
        Way(OURS, mirror.save, lambda: None),
        Way(OURS_BEHIND, lambda step: behind.save(step, wait=False), behind.wait),
        Way(OURS_ON_DISK, slow.save, lambda: None),
    ]


def _peer(net: Net, method: Method, disk: Path) -> Way:
    folder = disk / method.name
    folder.mkdir()
    return Way(method.name, lambda _: method.save(tensors_of(net), folder), method.finish)
