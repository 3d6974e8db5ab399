"""Random generators: the process's own, always, and generator objects."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from plinius.errors import ConfigError
from plinius.state import capture
from test_state_mirroring import mirror_in, mirror_out, refusal


def draws() -> list[Any]:
    """Draws from every generator of the process, in a way that leaves half a pair of normals behind."""
    return [random.random(), random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.randn(3).tolist()]  # noqa: S311


def scramble() -> None:
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    draws()


def test_the_generators_of_the_process_go_on() -> None:
    scramble()
    draws()
    mirrored = mirror_out({})
    expected = [draws(), draws()]
    scramble()
    mirror_in({}, mirrored)
    assert [draws(), draws()] == expected


def test_the_states_of_generators_are_in_the_tree() -> None:
    assert capture({"rng": np.random.default_rng(1)}).buffers == []


OBJECTS = {
    "random.Random": random.Random,
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
    "PCG64": np.random.default_rng,
    "PCG64DXSM": lambda seed: np.random.Generator(np.random.PCG64DXSM(seed)),
    "Philox": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "SFC64": lambda seed: np.random.Generator(np.random.SFC64(seed)),
    "RandomState": np.random.RandomState,
    "RandomState of PCG64": lambda seed: np.random.RandomState(np.random.PCG64(seed)),
    "torch.Generator": lambda seed: torch.Generator().manual_seed(seed),
}


def draw(generator: Any) -> list[Any]:
    if isinstance(generator, torch.Generator):
        return [torch.randn(3, generator=generator).tolist(), torch.rand(17, generator=generator).tolist()]
    if isinstance(generator, random.Random):
        return [generator.gauss(0, 1), generator.getrandbits(77)]
    if isinstance(generator, np.random.Generator):
        return [generator.standard_normal(), generator.random(3).tolist(), generator.random(dtype=np.float32)]
    return [generator.randn(), generator.rand()]


@pytest.mark.parametrize("name", OBJECTS)
def test_generator_objects_go_on(name: str) -> None:
    saved, now = OBJECTS[name](1), OBJECTS[name](2)
    draw(saved)
    mirror_in({"top": now, "tree": {"deep": [now]}}, mirror_out({"top": saved, "tree": {"deep": [saved]}}))
    assert [draw(now), draw(now)] == [draw(saved), draw(saved)]


def test_a_bit_generator_goes_on() -> None:
    saved, now = np.random.PCG64(1), np.random.PCG64(2)
    saved.random_raw()
    mirror_in({"bits": now}, mirror_out({"bits": saved}))
    assert now.random_raw() == saved.random_raw()


def test_a_generator_of_another_kind_is_refused() -> None:
    message = refusal({"rng": np.random.default_rng(1)}, {"rng": np.random.Generator(np.random.Philox(1))})
    assert "rng: 'numpy.random.PCG64' then, 'numpy.random.Philox' now" in message
    message = refusal({"rng": random.Random(1)}, {"rng": np.random.RandomState(1)})  # noqa: S311
    assert "rng: 'random.Random' then, 'numpy.random.RandomState over MT19937' now" in message
    assert "rng: a random.Random then, a dict now" in refusal({"rng": random.Random(1)}, {"rng": {}})  # noqa: S311


@pytest.mark.parametrize("generator", [random.SystemRandom(), type("Own", (random.Random,), {})()])
def test_a_generator_whose_state_is_not_known_is_refused(generator: random.Random) -> None:
    with pytest.raises(ConfigError, match=r"rng/0: a .* cannot be mirrored"):
        capture({"rng": [generator]})


def test_generators_are_captured_after_state_that_draws_as_it_is_read() -> None:
    class Drawing:
        def __init__(self, generator: torch.Generator) -> None:
            self.generator = generator

        def state_dict(self) -> dict[str, Any]:
            torch.rand(1, generator=self.generator)
            torch.rand(1)
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

    generator = torch.Generator().manual_seed(1)
    mirrored = mirror_out({"generator": generator, "drawing": Drawing(generator)})
    expected = [draw(generator), draws()]
    again = torch.Generator()
    mirror_in({"generator": again, "drawing": Drawing(again)}, mirrored)
    assert [draw(again), draws()] == expected
