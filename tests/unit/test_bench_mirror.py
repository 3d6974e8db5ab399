"""`plinius bench mirror` and `plinius bench step` in miniature, so that they cannot rot."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import pytest
import torch
from inside import Command
from jobs import line_of
from plinius import state
from plinius.bench import mirror, mirror_report, nets, phases, step, step_report
from plinius.bench.clock import Turns
from plinius.bench.intervals import Interval, median, ratio
from plinius.bench.methods import Method, durable_methods, forget, memcpy
from plinius.bench.mirror import BOUND, DISK, MEMORY, OURS, PM, Measured, Plan
from plinius.bench.nets import darknet, tensors_of, transformer
from plinius.bench.tensors import bytes_of, change, empty_like, equal
from plinius.bench.tensors import transformer as parameters
from plinius.mirror import Mirror
from plinius.mirror.bounds import Bounds
from plinius.pool import Pool
from plinius.seal import Key

CFG = Path(__file__).parent / "cfg" / "connected.cfg"
ONCE = Turns(seconds=0.001, at_least=1, at_most=1)


@pytest.fixture(autouse=True)
def passive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands would start this program again."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")


def test_the_interval_of_a_median_holds_it_and_narrows() -> None:
    few, many = median([1, 2, 3, 4, 5]), median([1, 2, 3, 4, 5] * 50)
    assert few.median == many.median == 3
    assert (few.low, few.high) == (1, 5)
    assert 2 < many.low <= 3 <= many.high < 4
    assert Interval(1.0123, 0.99, 1.03, 6).text(2) == "1.01 (0.99 to 1.03)"
    assert Interval(1, 0.9, 2, 3).text(1) == "1.0 (0.9 to 2.0, all of 3)"
    with pytest.raises(ValueError, match="nothing was measured"):
        median([])


def test_few_values_are_told_whole() -> None:
    assert median([9, 1, 2, 3, 4]) == Interval(3, 1, 9, 5)
    many = median([*range(1, 40), 1000])
    assert 1 < many.low < many.median == 20.5 < many.high < 1000


def test_a_ratio_is_that_of_pairs() -> None:
    # The machine is ten times slower in the second pair: a ratio of medians would not be 2.
    assert ratio([2, 20, 4], [1, 10, 2]) == Interval(2, 2, 2, 3)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_turns_end_with_the_time_but_not_before_there_are_enough() -> None:
    assert len(list(Turns(seconds=1e-9, at_least=3, at_most=9))) == 3
    shares = list(Turns(seconds=1000, at_least=1, at_most=4))
    assert len(shares) == 4
    assert shares == sorted(shares)
    assert shares[-1] == 0.75


@pytest.mark.parametrize("size_bytes", [100_000, 1_000_000, 30_000_000])
def test_the_state_has_the_size_that_is_asked_for(size_bytes: int) -> None:
    tensors = parameters(size_bytes)
    assert sum(bytes_of(tensors)) == pytest.approx(size_bytes, rel=0.01)
    assert len(tensors) == 12 * 12 + 1
    embedding = tensors["embedding.weight"].nbytes / size_bytes
    assert 0.2 < embedding < 0.35


@pytest.mark.parametrize("method", [memcpy(), *durable_methods()], ids=lambda method: method.name)
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_every_way_gives_back_what_it_saved(method: Method, tmp_path: Path) -> None:
    saved = parameters(1_500_000)  # more than one chunk
    saved["scalar"] = torch.tensor(3.0)
    loaded = empty_like(saved)
    method.save(saved, tmp_path)
    method.finish()
    forget(tmp_path)
    method.load(loaded, tmp_path)
    assert equal(saved, loaded)
    change(saved)
    assert not equal(saved, loaded)


@pytest.mark.parametrize("name", ["AES-GCM", "torch.save + AES-GCM"])
def test_what_is_sealed_holds_no_plaintext(name: str, tmp_path: Path) -> None:
    [method] = [one for one in durable_methods() if one.name == name]
    method.save({"weights": torch.full((1000,), 3.0)}, tmp_path)
    assert torch.full((4,), 3.0).numpy().tobytes() not in (tmp_path / "checkpoint").read_bytes()


def test_the_bounds_grow_with_the_bytes_and_leave_the_pool_as_it_was(folder: Path) -> None:
    key = Key.generate()
    with Pool(folder / "pool") as pool:
        small, large = (Bounds(pool, key, [length, 3]) for length in (1 << 18, 1 << 25))
        for measure in ("seal_s", "open_s", "copy_in_s", "copy_out_s"):
            times = [min(getattr(bounds, measure)() for _ in range(3)) for bounds in (small, large)]
            assert 0 < times[0] < times[1] / 4, measure
        stats = pool.stats()
        large.copy_in_s()
        large.copy_out_s()
        assert pool.stats() == stats


def test_phases_are_seen_and_nothing_stays_replaced(folder: Path) -> None:
    before = state.capture
    with Pool(folder / "pool") as pool:
        tensors = {"w": torch.ones(1000)}
        mirrored = Mirror(pool, Key.generate(), name="m", tensors=tensors)
        with phases.watched() as saving:
            mirrored.save(1)
        with phases.watched() as restoring, pytest.warns(UserWarning, match="rollback"):
            mirrored.restore()
        assert saving.keys() >= {"gather", "seal and write", "manifest", "flip"}
        assert restoring.keys() >= {"manifest", "plan", "read and open"}
        assert all(seconds > 0 for seconds in (*saving.values(), *restoring.values()))
        assert state.capture is before
        counted = dict(saving)
        mirrored.save(2)
        assert dict(saving) == counted


def test_ratios_to_the_bound_and_to_other_ways() -> None:
    """Two rounds of two pairs: ours takes 1.5 times the bound, and the other way twice ours, in both rounds."""
    size = Measured(10, 10_000_000, 145, pairs=2, rounds=2)
    for slow in (1, 8):
        size.times["other", DISK, mirror.BLOCKED].append(1 * slow)
        size.times["other", DISK, mirror.SAVE].append(6 * slow)
        size.times["other", DISK, mirror.RESTORE].append(60 * slow)
        for _ in range(2):
            size.times[BOUND, PM, mirror.SEAL].append(0.5 * slow)
            size.times[BOUND, PM, mirror.COPY_IN].append(1.5 * slow)
            size.times[BOUND, PM, mirror.OPEN].append(4 * slow)
            size.times[BOUND, PM, mirror.COPY_OUT].append(6 * slow)
            size.times[OURS, PM, mirror.SAVE].append(3 * slow)
            size.times[OURS, PM, mirror.RESTORE].append(20 * slow)
            size.save_phases.append({"gather": 0.5 * slow, "flip": 0.25 * slow})
            size.restore_phases.append({"read and open": 18 * slow})
    report = mirror_report.summarize(Plan("/dev/shm", "/", ONCE, [10]), [size])  # noqa: S108
    save, restore = report.bounded
    assert (save.what, save.ratio) == ("save", Interval(1.5, 1.5, 1.5, 4))
    assert (restore.what, restore.ratio) == ("restore", Interval(2, 2, 2, 4))
    assert (save.seconds, save.crypto_s, save.copy_s) == (13.5, 2.25, 6.75)
    assert save.above_s == statistics.median([1, 1, 8, 8])
    assert save.phases["rest"] == statistics.median([2.25, 2.25, 18, 18])
    [other] = report.compared
    assert (other.system, other.place) == ("other", "disk")
    assert (other.save_ratio.median, other.restore_ratio.median) == (2, 3)
    assert other.blocked_s == 4.5
    assert report.pairs == {"10": 4}
    text = mirror_report.explain(report)
    assert "1.50 (1.50 to 1.50, all of 4)" in text
    assert [line for line in text.splitlines() if line.split()[:3] == ["other", "disk", "10"]], text


def test_everything_of_a_size_is_measured_and_nothing_is_left_behind(folder: Path) -> None:
    shares = []
    [size] = mirror.measure(Plan(str(folder), str(folder), ONCE, [0.1]), lambda _, share: shares.append(share))
    assert (size.rounds, len(shares)) == (1, 1)
    names = {method.name for method in durable_methods()}
    assert {system for system, place, _ in size.times if place == DISK} == {OURS, *names}
    assert {system for system, place, _ in size.times if place == PM} == {OURS, BOUND, *names}
    assert next(system for system, place, _ in size.times if place == MEMORY) == "memcpy"
    assert len(size.times[OURS, PM, "save"]) == len(size.save_phases) == size.pairs == 10
    assert list(folder.iterdir()) == []


def test_the_command_prints_json_and_draws(inside: Command, folder: Path) -> None:
    options = ["--pool", folder, "--disk", folder, "--size", 0.1, "--quick", "--seconds", 0.001]
    done = inside("bench", "mirror", *options, "--output", folder / "out", "--json")
    assert (done.code, done.err) == (0, "")
    [facts] = done.messages
    assert json.loads((folder / "out" / "mirror.json").read_text()) == facts
    assert [one["what"] for one in facts["bounded"]] == ["save", "restore"]
    for name in ("mirror.png", "mirror-methods.png"):
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_net_of_a_cfg_and_a_transformer_train() -> None:
    for net in (darknet(str(CFG)), transformer(16, 1, 0)):
        net.step()
        before = {name: tensor.clone() for name, tensor in tensors_of(net).items()}
        net.step()
        after = tensors_of(net)
        assert not equal(before, after)
        assert any(name.startswith("optimizer.") for name in after)


def test_the_batch_grows_until_a_step_takes_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transformer(16, 1, 0).batch == 1
    monkeypatch.setattr(nets._Transformer, "_timed_step_s", lambda net: 0.01 * net.batch)
    assert transformer(16, 1, 0.03).batch == 4


def test_what_a_save_adds_to_a_step() -> None:
    found = step.Measured("net", 4, 12, every=10)
    for slow in (1, 5):
        found.plain_s["way"].append(1 * slow)
        found.step_s["way"].append(1.25 * slow)
        found.blocked_s["way"].append(0.5)
        found.bound_s.append(0.1)
    report = step_report.summarize(step.Plan("/dev/shm", "/", [], ONCE), [found])  # noqa: S108
    [net] = report.nets
    [saving] = net.savings
    assert saving.ratio == Interval(1.25, 1.25, 1.25, 2)
    assert saving.added_s.median == pytest.approx(10 * statistics.median([0.25, 1.25]))
    assert (net.plain_step_s, net.bound_s, saving.pairs) == (3, 0.1, 2)
    assert "1.250 (1.250 to 1.250, all of 2)" in step_report.explain(report)


def test_each_way_is_measured_beside_a_block_without_saving(folder: Path) -> None:
    steps = []

    def make() -> object:
        net = transformer(16, 1, 0)
        train = net.step
        net.step = lambda: steps.append(1) or train()  # type: ignore[method-assign]
        return net

    plan = step.Plan(str(folder), str(folder), [make], ONCE, [1, 3])  # type: ignore[list-item]
    found = step.measure(plan)
    ways = [OURS, step.OURS_BEHIND, step.OURS_ON_DISK, *(method.name for method in durable_methods())]
    for one, saves in zip(found, (2, 1), strict=True):
        assert list(one.step_s) == list(one.plain_s) == ways
        assert {way: len(times) for way, times in one.blocked_s.items() if way} == dict.fromkeys(ways, saves)
        assert all(seconds > 0 for way in ways for seconds in (*one.step_s[way], *one.plain_s[way]))
    pairs = -(-len(ways) // 2)
    blocks = len(ways) + pairs
    assert len(steps) == 1 + len(ways) * 3 + blocks * (3 + 4)
    assert list(folder.iterdir()) == []


def test_the_command_for_steps(inside: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "transformer", lambda *_: transformer(16, 1, 0))
    options = ["--pool", folder, "--disk", folder, "--quick", "--every", 1, "--seconds", 0.001, "--cfg", CFG]
    done = inside("bench", "step", *options, "--output", folder / "out", "--json")
    assert (done.code, done.err) == (0, "")
    [facts] = done.messages
    assert [net["name"].split(",")[0] for net in facts["nets"]] == ["connected.cfg", "transformer"]
    assert (folder / "out" / "step.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["mirror", "--pool", "/no/such"], "/no/such: nothing can be made here: No such file"),
        (["mirror", "--disk", "/no/such"], "/no/such: nothing can be made here: No such file"),
        (["step", "--quick", "--cfg", "/no/such.cfg"], "/no/such.cfg: cannot be read: No such file"),
        (["step", "--output", "/proc/no"], "/proc/no: cannot make this folder"),
    ],
)
def test_an_option_that_is_wrong(inside: Command, option: list[str], words: str) -> None:
    assert words in line_of(3, inside("bench", *option))


@pytest.mark.parametrize("command", ["mirror", "step"])
def test_without_matplotlib_it_says_so_before_it_measures(
    inside: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = line_of(3, inside("bench", command, "--pool", folder, "--output", folder / "out"))
    assert line.startswith("the plot needs matplotlib")
    assert list(folder.iterdir()) == []
