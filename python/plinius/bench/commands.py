"""The commands of `plinius bench`."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from plinius.errors import ConfigError

app = App(name="bench", help="Measure on this machine what the paper's figures show.")

Pwb = Literal["clwb", "clflushopt", "clflush", "none"]


@app.command
def sps(
    *,
    pool: str = "/dev/shm",  # noqa: S108 (a folder is made there)
    pwb: list[Pwb] | None = None,
    peer: list[str] | None = None,
    fences: str | None = None,
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 0.2,
    rounds: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    output: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
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
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("measuring", total=plan.measurements)
        report = summarize(plan, *measure(plan, lambda: bar.advance(task)))
    facts = json_module.dumps(msgspec.to_builtins(asdict(report)))
    if output is not None:
        (Path(output) / "sps.json").write_text(facts + "\n")
        plot.plot(report, str(Path(output) / "sps.png"))
    sys.stdout.write((facts if json else explain(report)) + "\n")


def _make_folder(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make this folder: {error.strerror}", path=path) from None
