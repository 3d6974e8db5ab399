"""The commands of `plinius bench`."""

from __future__ import annotations

import json as json_module
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, TimeElapsedColumn, TimeRemainingColumn

from plinius.errors import ConfigError
from plinius.streams import say

app = App(name="bench", help="Measure on this machine what the paper's figures show.")

Pwb = Literal["clwb", "clflushopt", "clflush", "none"]
_QUICK_S = 90
Seconds = Annotated[float, Parameter(validator=Number(gt=0))]


@app.command
def sps(
    *,
    pool: str = "/dev/shm",  # noqa: S108 (a folder is made there)
    pwb: list[Pwb] | None = None,
    peer: list[str] | None = None,
    fences: str | None = None,
    seconds: Seconds = 0.2,
    rounds: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Swaps per second in a persistent array of 10 MiB, 2 to 2048 swaps in a transaction (figure 6).

    One thread, through the public API. All systems are measured in turn, round after round; what is reported is the
    median. `make bench-sps` builds the peers and the program for the fences, and names them.

    Args:
        pool: A folder for the pools.
        pwb: The write-backs; without it, all that this CPU has, and none as the bound.
        peer: Another system to measure beside, as NAME=COMMAND; see bench/peers/README.md. Can be given again.
        fences: The program that measures what each fence of a transaction costs.
        seconds: Of each single measurement.
        rounds: How often everything is measured.
        output: A folder for sps.json and sps.png.
        json: Print JSON for machines.
    """
    from plinius.bench import plot
    from plinius.bench.peers import Peer
    from plinius.bench.report import explain, summarize
    from plinius.bench.sps import Plan, measure, pwbs

    peers = [Peer.parse(text) for text in peer or ()]
    plan = Plan(pool, pwb or pwbs(), peers, fences, seconds, rounds)
    if output is not None:
        plot.check_can_plot()
        _make_folder(output)
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with _progress(*columns) as bar:
        task = bar.add_task("measuring", total=plan.measurements)
        report = summarize(plan, *measure(plan, lambda: bar.advance(task)))
    facts = json_module.dumps(msgspec.to_builtins(asdict(report)))
    if output is not None:
        (Path(output) / "sps.json").write_text(facts + "\n")
        plot.plot(report, str(Path(output) / "sps.png"))
    say(facts if json else explain(report))


@app.command
def mirror(
    *,
    pool: str = "/dev/shm",  # noqa: S108 (a folder is made there)
    disk: str = ".",
    size: list[Annotated[float, Parameter(validator=Number(gt=0))]] | None = None,
    seconds: Seconds | None = None,
    quick: bool = False,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Save and restore of states of 1 MB to 1 GB, beside their bounds and beside other ways (figure 7).

    The bound of a save is the same bytes sealed in cache plus the same bytes copied to PM, that of a restore the same
    bytes opened in cache plus copied from PM, with the same threads. Other ways: memcpy, AES-GCM, torch.save, the two
    together, safetensors, torch.distributed.checkpoint; on PM, and on the disk with fsync and a cold cache.

    Args:
        pool: A folder for the pools, on PM.
        disk: A folder on a disk.
        size: Of the state in MB; can be given again. Without it, ten sizes up to 1000.
        seconds: For each size, after a first round; 120, or 15 with --quick.
        quick: Three sizes up to 100 MB, at most three minutes.
        output: A folder for mirror.json, mirror.png and mirror-methods.png.
        json: Print JSON for machines.
    """
    _prepare(output)
    from plinius.bench import mirror_plot
    from plinius.bench.clock import Turns
    from plinius.bench.mirror import QUICK_SIZES_MB, SIZES_MB, Plan, measure
    from plinius.bench.mirror_report import explain, summarize

    turns = Turns(seconds or (15 if quick else 120), at_least=1 if quick else 5, at_most=30)
    plan = Plan(pool, disk, turns, size or (QUICK_SIZES_MB if quick else SIZES_MB))
    with _progress(*Progress.get_default_columns()[:-1]) as bar:
        task = bar.add_task("measuring", total=len(plan.sizes_mb))

        def show(size_mb: float, share: float) -> None:
            done = list(plan.sizes_mb).index(size_mb) + share
            bar.update(task, description=f"measuring {size_mb:g} MB", completed=done)

        report = summarize(plan, measure(plan, show))
    facts = json_module.dumps(msgspec.to_builtins(asdict(report)))
    if output is not None:
        (Path(output) / "mirror.json").write_text(facts + "\n")
        mirror_plot.plot_bounds(report, str(Path(output) / "mirror.png"))
        mirror_plot.plot_methods(report, str(Path(output) / "mirror-methods.png"))
    say(facts if json else explain(report))


@app.command
def step(
    *,
    cfg: str | None = None,
    pool: str = "/dev/shm",  # noqa: S108 (a folder is made there)
    disk: str = ".",
    every: list[Annotated[int, Parameter(validator=Number(gte=1))]] | None = None,
    seconds: Seconds | None = None,
    quick: bool = False,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Time of a whole training step with a save every 1, 10 and 50 steps, beside a step without, for each way to save.

    Trains a transformer with a state of 100 MB (Adam) whose batch is so large that a step takes 0.6 s or more, and the
    network of a cfg. The ways: ours, and AES-GCM, torch.save, the two together, safetensors and
    torch.distributed.checkpoint, all fsynced.

    Args:
        cfg: A network to train too, on made-up images.
        pool: A folder for our pool, on PM.
        disk: A folder for the files of the others.
        every: Save after so many steps; can be given again.
        seconds: For each network and each `every`, in two rounds at least; 300, or with --quick what fits.
        quick: A small transformer with short steps, at most three minutes.
        output: A folder for step.json and step.png.
        json: Print JSON for machines.
    """
    _prepare(output)
    from functools import partial

    from plinius.bench import step_plot
    from plinius.bench.clock import Turns
    from plinius.bench.nets import Net, darknet, transformer
    from plinius.bench.step import EVERY, Plan, measure
    from plinius.bench.step_report import explain, summarize

    nets: list[Callable[[], Net]] = [partial(transformer, *((96, 4, 0.03) if quick else (336, 6, 0.6)))]
    if cfg is not None:
        nets.insert(0, partial(darknet, cfg))
    often = every or EVERY
    turns = Turns(seconds or (_QUICK_S / len(nets) / len(often) if quick else 300), at_least=2, at_most=200)
    plan = Plan(pool, disk, nets, turns, often)
    with _progress(*Progress.get_default_columns()[:-1]) as bar:
        task = bar.add_task("measuring", total=1)
        report = summarize(plan, measure(plan, lambda what, over: bar.update(task, description=what, completed=over)))
    facts = json_module.dumps(msgspec.to_builtins(asdict(report)))
    if output is not None:
        (Path(output) / "step.json").write_text(facts + "\n")
        step_plot.plot(report, str(Path(output) / "step.png"))
    say(facts if json else explain(report))


@app.command(name="all")
def everything(
    *,
    output: str,
    data: str | None = None,
    pool: str = "/dev/shm",  # noqa: S108 (a folder is made there)
    disk: str = ".",
    only: str | None = None,
    peer: list[str] | None = None,
    quick: bool = False,
    again: bool = False,
) -> None:
    """Every table and figure of the paper, measured here, as one page beside what the paper says.

    About 30 minutes on 2 cores. Each result is written as soon as it is there: a run that was interrupted goes on where
    it stopped, and so does a run with more experiments. Results of another machine or other options are measured anew.

    Args:
        output: A folder for index.html, which needs nothing else, and for a .json and a .png of each experiment.
        data: A folder with mnist/, cfg/plinius-mnist.cfg and spot/: real data; without it, some is made up.
        pool: A folder for the pools, on PM.
        disk: A folder on a disk.
        only: The experiments to run, with commas between them.
        peer: Another system for figure 6, as NAME=COMMAND; see bench/peers/README.md. Can be given again.
        quick: Fewer points and rounds, about 3 minutes.
        again: Measure again what is there already.
    """
    from plinius.bench import registry

    names = tuple(only.split(",")) if only is not None else registry.NAMES
    if unknown := [name for name in names if name not in registry.NAMES]:
        raise ConfigError(f"--only {unknown[0]}: there is no such experiment; there are {', '.join(registry.NAMES)}")
    if data is not None and not Path(data).is_dir():
        raise ConfigError("there is no such folder", path=data)
    _prepare(output)
    # What was started is ended, and folders are removed, whoever stops this.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    from functools import partial

    from plinius.bench.everything import Run
    from plinius.bench.experiment import Plan
    from plinius.bench.peers import Peer

    peers = [Peer.parse(text) for text in peer or ()]

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeElapsedColumn())
    with _progress(*columns) as bar:
        task = bar.add_task("measuring", total=len(names))
        plan = Plan(
            quick, Path(pool), Path(disk), Path(data) if data else None, partial(bar.console.print, markup=False)
        )

        def show(name: str) -> None:
            bar.update(task, description=f"measuring {name}", completed=names.index(name))

        found = Run(plan, Path(output), peers, names, again).go(show)
    for record in found:
        say(f"{record.experiment}: {record.reason or 'measured'}")
    say(f"the report: {Path(output) / 'index.html'}")


@app.command
def spot(
    *,
    trace: str,
    bid: Annotated[float, Parameter(validator=Number(gt=0))] | None = None,
    factor: Annotated[float, Parameter(validator=Number(gt=0))] | None = None,
    pool: str = "/dev/shm",  # noqa: S108 (a folder is made there)
    disk: str = ".",
    data: str | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Train on a spot instance as a trace says: really killed and started, the trace's time compressed (figure 10).

    Mirrored after each step, with checkpoints on the disk, and with neither, side by side: loss, goodput and cost.

    Args:
        trace: JSON of ticks with the instances that were available (metadata.gap_seconds, data), or the price history
            of one market from `aws ec2 describe-spot-price-history`, as JSON or as text with tabs.
        bid: What is paid at most, in dollars an hour; a price history needs it.
        factor: Play the whole trace, so many times as fast. Without it, a part with 5 preemptions is played, so fast
            that its shortest life has time for two starts.
        pool: A folder for the mirrored pool, on PM.
        disk: A folder for the checkpoint.
        data: A folder with MNIST in mnist/; without it, pictures are made.
        output: A folder for spot.json and spot.png.
        json: Print JSON for machines.
    """
    from plinius.bench import fig10, spot_plot
    from plinius.bench import spot as spots
    from plinius.bench.trace import read

    whole = read(trace, bid)
    _need("torch")
    if output is not None:
        from plinius.bench.plot import check_can_plot

        check_can_plot()
        _make_folder(output)
    played = whole if factor is not None else whole.part(fig10.PREEMPTIONS)
    places = spots.Places(Path(pool), Path(disk), None if data is None else Path(data))
    result = spots.measure(played, factor, places, Console(stderr=True, soft_wrap=True).print)
    facts = json_module.dumps(result)
    if output is not None:
        (Path(output) / "spot.json").write_text(facts + "\n")
        spot_plot.draw(result, Path(output) / "spot.png")
    say(facts if json else spots.explain(result))


def _prepare(output: str | None) -> None:
    """Checks what is needed, before anything is measured."""
    from plinius.bench.passive import wait_passively
    from plinius.bench.plot import check_can_plot

    _need("torch", "safetensors")
    if output is not None:
        check_can_plot()
        _make_folder(output)
    wait_passively()


def _need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise ConfigError(f"the benchmark needs {package}: pip install 'plinius[torch]'")


def _progress(*columns: ProgressColumn) -> Progress:
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _make_folder(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make this folder: {error.strerror}", path=path) from None
