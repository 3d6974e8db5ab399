"""The paper's numbers: each has a place, and each is shown by an experiment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plinius.bench import paper, registry

BENCH = Path(paper.__file__).parent
ASKED = re.compile(r'number\(\s*(f?)"([^"]+)"')


def asked() -> list[tuple[str, str]]:
    """For each place in the code that asks for a number: the file, and what the keys look like."""
    found = []
    for path in BENCH.glob("*.py"):
        for formatted, key in ASKED.findall(path.read_text()):
            pattern = re.escape(key)
            found.append((path.name, re.sub(r"\\\{.*?\\\}", r"\\w+", pattern) if formatted else pattern))
    return found


@pytest.mark.parametrize("key", paper.all())
def test_every_number_has_a_place_and_is_shown_by_its_experiment(key: str) -> None:
    number = paper.number(key)
    assert number.place.strip()
    assert number.unit.strip()
    assert number.text.strip()
    experiment = key.partition(".")[0]
    assert experiment in registry.NAMES
    assert any(re.fullmatch(pattern, key) for _, pattern in asked()), f"nothing shows {key}"


def test_only_numbers_that_are_there_are_asked_for() -> None:
    for file, pattern in asked():
        assert any(re.fullmatch(pattern, key) for key in paper.all()), f"{file} asks for {pattern}"
    with pytest.raises(KeyError):
        paper.number("fig7.no_such")


def test_a_number_says_its_unit_and_place() -> None:
    assert str(paper.number("fig7.save_speedup")) == "3.2x (abstract)"
    assert str(paper.number("fig7.transition")) == "13,100 cycles (background on Intel SGX)"
