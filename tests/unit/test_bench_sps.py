"""`plinius bench sps` in miniature, so that it cannot rot. Its peers are faked: a program that follows the protocol."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from inside import Command
from jobs import line_of
from plinius import pool
from plinius.bench.peers import Fences, Peer, Workload, fences
from plinius.bench.report import explain, summarize
from plinius.bench.sps import OURS, Plan, Rates, measure, pwbs
from plinius.errors import ConfigError, PliniusError, PoolError

ROOT = Path(__file__).parents[2]
FENCES_EXAMPLE = ROOT / "target" / "debug" / "examples" / "fences"
WORK = {"array_bytes": 1 << 16, "swaps_per_transaction": 2, "seconds": 0.01, "seed": 1}

FAKE = """
import json, pathlib, sys
path, array_bytes, swaps, seconds, pwb, seed = sys.argv[1:]
assert not pathlib.Path(path).exists() and pathlib.Path(path).parent.is_dir()
pathlib.Path(path).write_bytes(bytes(int(array_bytes)))
with open({log!r}, "a") as log:
    log.write(json.dumps([int(swaps), pwb, int(seed), float(seconds)]) + "\\n")
print("talks before it answers")
print({answer!r})
"""
ANSWER = {"swaps": 3000, "seconds": 0.5, "checksum_ok": True}
FENCES_ANSWER = {
    "fences": 4,
    "written_back_lines": 7.0,
    "copied_lines": 5.0,
    "one_line_ns": 100.0,
    "transaction_ns": 1000.0,
    "fence_ns": [30.0, 40.0, 50.0, 60.0],
    "all_fences_ns": 250.0,
    "noise_ns": 1.0,
}

Fake = Callable[..., str]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Makes a program that answers as a peer does, and logs what it was asked; its command."""

    def make(answer: dict[str, Any], name: str = "fake") -> str:
        program = tmp_path / f"{name} peer.py"
        program.write_text(FAKE.format(log=str(tmp_path / name), answer=json.dumps(answer)))
        return shlex.join([sys.executable, "-S", str(program)])

    return make


def test_everything_is_measured_in_turn_and_nothing_is_left_behind(fake: Fake, folder: Path, tmp_path: Path) -> None:
    peer = Peer.parse(f"fake={fake(ANSWER)}")
    plan = Plan(str(folder), ["clflush", "none"], [peer], fake(FENCES_ANSWER, "fences"), 0.002, 2, (2, 8), 1 << 16)
    steps = []
    rates, costs = measure(plan, lambda: steps.append(1))
    assert len(steps) == plan.measurements == 2 * 2 * 2 * 2 + 2
    asked = [json.loads(line) for line in (tmp_path / "fake").read_text().splitlines()]
    assert asked == [[size, pwb, turn, 0.002] for turn in (0, 1) for size in (2, 8) for pwb in ("clflush", "none")]
    assert {key: len(found) for key, found in rates.items()} == {
        (system, pwb, size): 2 for system in (OURS, "fake") for pwb in ("clflush", "none") for size in (2, 8)
    }
    assert rates["fake", "none", 8] == [6000, 6000]
    assert all(rate > 0 for found in rates.values() for rate in found)
    assert [json.loads(line)[:2] for line in (tmp_path / "fences").read_text().splitlines()] == [
        [2, "clflush"],
        [2, "none"],
    ]
    assert costs["clflush"].fence_ns == [30, 40, 50, 60]
    assert list(folder.iterdir()) == []


def test_medians_ratios_and_the_line_through_the_times() -> None:
    """Rates made from a known line: fixed 3 us and 0.5 us a swap for us, twice that for the peer."""
    plan = Plan("/", ["clwb", "none"], [Peer("other", ("x",))], sizes=(2, 16, 2048), rounds=3)
    rates: Rates = {}
    for pwb, size in [(pwb, size) for pwb in plan.pwbs for size in plan.sizes]:
        rate = size / (3e-6 + size * 0.5e-6)
        rates[OURS, pwb, size] = [rate, rate * 9, rate / 9]
        rates["other", pwb, size] = [rate / 2, rate * 9 / 2, rate / 18]
    rates["other", "none", 16] = [rates[OURS, "none", 16][0] / 0.75, *rates["other", "none", 16][1:]]
    rates["other", "none", 2] = [rate / 0.8 for rate in rates[OURS, "none", 2]]
    report = summarize(plan, rates, {"clwb": Fences(**FENCES_ANSWER)})

    ratios = {(ratio.pwb, ratio.swaps_per_transaction): ratio.ratio for ratio in report.ratios}
    assert ratios["clwb", 2] == ratios["clwb", 2048] == ratios["none", 16] == pytest.approx(2)
    [least] = report.smallest
    assert (least.peer, least.pwb, least.swaps_per_transaction, least.ratio) == ("other", "none", 2, pytest.approx(0.8))
    costs = {(cost.system, cost.pwb): cost for cost in report.costs}
    assert (costs[OURS, "clwb"].fixed_us, costs[OURS, "clwb"].swap_us) == (pytest.approx(3), pytest.approx(0.5))
    assert (costs["other", "clwb"].fixed_us, costs["other", "clwb"].swap_us) == (pytest.approx(6), pytest.approx(1))
    assert costs[OURS, "clwb"].worst_fit < 1e-6 < costs["other", "none"].worst_fit

    rates[OURS, "none", 2048] = [rate / 1.5 for rate in rates[OURS, "none", 2048]]
    [bent] = [cost for cost in summarize(plan, rates, {}).costs if (cost.system, cost.pwb) == (OURS, "none")]
    assert bent.worst_fit < 0.3  # a line through the absolute times misses the smallest transaction by 0.44

    text = explain(report)
    assert "smallest ratio to other: 0.80 (2 swaps a transaction, none)" in text
    assert [line for line in text.splitlines() if line.split()[:2] == ["clwb", "1000"]], text
    assert " 25% " in text


def test_the_command_prints_json_and_draws(inside: Command, fake: Fake, folder: Path) -> None:
    options = ["--pool", folder, "--pwb", "none", "--rounds", 1, "--seconds", 0.001, "--output", folder / "out"]
    peers = ["--peer", f"fake={fake(ANSWER)}", "--fences", fake(FENCES_ANSWER, "fences")]
    done = inside("bench", "sps", *options, *peers, "--json")
    assert (done.code, done.err) == (0, "")
    [facts] = done.messages
    assert json.loads((folder / "out" / "sps.json").read_text()) == facts
    assert (folder / "out" / "sps.png").read_bytes().startswith(b"\x89PNG")
    sizes = [2**power for power in range(1, 12)]
    assert [r["swaps_per_transaction"] for r in facts["rates"] if r["system"] == OURS] == sizes
    assert [r["swaps_per_transaction"] for r in facts["ratios"]] == sizes
    assert facts["fences"] == {"none": FENCES_ANSWER}
    assert facts["array_bytes"] == 10 << 20


def test_without_matplotlib_it_says_so_before_it_measures(
    inside: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = line_of(3, inside("bench", "sps", "--pool", folder, "--output", folder / "out"))
    assert line == "the plot needs matplotlib: pip install 'plinius[bench]', or leave --output out"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--peer", "nothing"], "say NAME=COMMAND"),
        (["--peer", "=command"], "say NAME=COMMAND"),
        (["--peer", "name="], "say NAME=COMMAND"),
        (["--peer", "name='"], "No closing quotation"),
        (["--peer", "name=/no/such/program"], "/no/such/program: cannot be run: No such file"),
        (["--pool", "/no/such/folder"], "/no/such/folder: no pool can be made here: No such file"),
        (["--output", "/proc/no"], "/proc/no: cannot make this folder"),
    ],
)
def test_an_option_that_is_wrong(inside: Command, folder: Path, option: list[str], words: str) -> None:
    quick = {"--pool": folder, "--seconds": 0.001, "--rounds": 1, "--pwb": "none", option[0]: option[1]}
    assert words in line_of(3, inside("bench", "sps", *chain.from_iterable(quick.items())))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("echo trouble >&2; exit 5", "failed (5): trouble"),
        ("echo nonsense", "its answer is no Swapped"),
        ('echo \'{"swaps": 3, "seconds": 1}\'', "its answer is no Swapped"),
        ('echo \'{"swaps": 3, "seconds": 1, "checksum_ok": false}\'', "lost a word"),
    ],
)
def test_a_peer_that_fails(folder: Path, program: str, words: str) -> None:
    peer = Peer("bad", ("sh", "-c", program))
    with pytest.raises(PliniusError) as caught:
        peer.swaps_per_s(Workload(pool=str(folder / "pool"), pwb="clwb", **WORK))
    assert words in str(caught.value)


def test_the_write_backs_of_this_cpu_and_the_bound() -> None:
    found = pwbs()
    assert found[0] == pool.cpu_write_back()
    assert found[-2:] == ["clflush", "none"]


@pytest.mark.parametrize("pwb", pwbs())
def test_our_swaps(folder: Path, pwb: str) -> None:
    swaps, seconds = pool.swaps(folder / "pool", flush=pwb, **{**WORK, "swaps_per_transaction": 64})
    assert swaps > 0
    assert swaps % 64 == 0
    assert 0.01 <= seconds < 5
    # One transaction for the array, one to free it; the warm-up's are a burst or more.
    assert pool.status(folder / "pool").commits >= 2 + swaps // 64 + 8


def test_our_array_has_words(folder: Path) -> None:
    with pytest.raises(PoolError, match="at least one word"):
        pool.swaps(folder / "pool", flush="none", **{**WORK, "array_bytes": 7})


def test_the_peer_for_libpmemobj(folder: Path, tmp_path: Path) -> None:
    built = tmp_path / "pmemobj_sps"
    compiler = shutil.which("cc")
    if not compiler or not os.path.exists("/usr/include/libpmemobj.h"):  # noqa: PTH110
        pytest.skip("needs cc and libpmemobj: sudo apt install libpmemobj-dev")
    source = ROOT / "bench" / "peers" / "pmemobj_sps.c"
    subprocess.run(
        [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", built, source, "-lpmemobj"], check=True
    )
    peer = Peer("libpmemobj", (str(built),))
    for pwb in pwbs():
        assert peer.swaps_per_s(Workload(pool=str(folder / pwb), pwb=pwb, **WORK)) > 0
    for wrong in ({"pwb": "wrong"}, {"swaps_per_transaction": 0}, {"array_bytes": 7}):
        with pytest.raises(PliniusError, match="are positive"):
            peer.swaps_per_s(Workload(**{"pool": str(folder / "wrong"), "pwb": "none", **WORK, **wrong}))


def test_the_program_for_the_fences(folder: Path) -> None:
    if not FENCES_EXAMPLE.exists():
        pytest.skip("needs what cargo test builds before (make test)")
    found = fences(str(FENCES_EXAMPLE), Workload(pool=str(folder / "pool"), pwb=pwbs()[0], **WORK))
    assert found.fences == len(found.fence_ns) == 4
    # Two state words and the heap's header, and with two swaps at most four lines of the array.
    assert 3 < found.written_back_lines <= 7
    assert found.copied_lines == pytest.approx(found.written_back_lines - 2)
    with pytest.raises(ConfigError, match="make bench-sps"):
        fences("/no/such/program", Workload(pool="", pwb="none", **WORK))
