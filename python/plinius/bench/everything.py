"""`plinius bench all`: runs every experiment, keeps each result as soon as it is there, and makes the report."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from msgspec.structs import replace as replace_struct

from plinius.attest import simulated
from plinius.bench import page, records, registry
from plinius.bench.experiment import Experiment, Plan
from plinius.bench.fig6 import SwapsPerSecond
from plinius.bench.machine import Machine, busy_cores, this_machine
from plinius.bench.peers import Peer
from plinius.bench.records import Record, Settings, surroundings
from plinius.errors import PliniusError

Load = Callable[[str], Experiment]
# What an idle machine does by itself.
_QUIET_CORES: Final = 0.25


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        plan: For all experiments.
        folder: The report's.
        peers: Of figure 6.
        only: The experiments to run; the report has all that were measured.
        again: Whether kept results are measured anew.
        load: Finds an experiment by its name.
        names: All experiments.
    """

    plan: Plan
    folder: Path
    peers: Sequence[Peer] = ()
    only: Sequence[str] = registry.NAMES
    again: bool = False
    load: Load = registry.load
    names: Sequence[str] = registry.NAMES

    def go(self, begun: Callable[[str], None] = lambda _: None) -> list[Record]:
        """Runs what is to run, and writes the report after each.

        Args:
            begun: Called with the name of each experiment before it runs.

        Returns:
            The records of what was to run.

        Raises:
            ConfigError: Something cannot be written, or a folder is missing.
        """
        machine = this_machine(self.plan)
        found: dict[str, Record] = {}
        for name in self.names:
            kept = self._kept(name, machine)
            if kept is not None:
                found[name] = kept
        for name in self.only:
            begun(name)
            if name in found:
                self.plan.tell(f"{name}: kept from {found[name].measured_at}")
                continue
            found[name] = self._shown(self._measure(name, machine))
            records.write(self.folder / f"{name}.json", found[name])
            self._write_page(machine, found)
        self._write_page(machine, found)
        return [found[name] for name in self.only]

    @property
    def _settings(self) -> Settings:
        plan = self.plan
        data = str(plan.data.resolve()) if plan.data else None
        folders = str(plan.memory.resolve()), str(plan.disk.resolve()), data
        peers = [str(peer) for peer in self.peers]
        return Settings(plan.quick, *folders, peers, surroundings(plan.data), simulated.measurement().hex())

    def _kept(self, name: str, machine: Machine) -> Record | None:
        record = records.read(self.folder / f"{name}.json")
        same = record is not None and (record.settings, record.machine) == (self._settings, machine)
        if record is None or not same or (self.again and name in self.only):
            return None
        if record.result is None:  # it is tried again where it is asked for, and else its reason stays on the page
            return None if name in self.only else record
        shown = self._shown(record)
        return None if shown.result is None else record

    def _measure(self, name: str, machine: Machine) -> Record:
        busy = busy_cores()
        began_s = time.monotonic()
        result, reason = None, None
        try:
            result = self._experiment(name).measure(self.plan)
        except PliniusError as error:
            reason = " ".join(str(error).split())
        except Exception as error:  # a mistake in one must not cost the others
            reason = f"it failed: {type(error).__name__}: {error}"
            self.plan.tell(traceback.format_exc())
        if reason is not None:
            self.plan.tell(f"{name}: {reason}")
        took_s = time.monotonic() - began_s
        now = datetime.now(UTC).isoformat(timespec="seconds")
        busy = max(busy, busy_cores())
        return Record(name, self._settings, machine, now, took_s, busy, result, reason)

    def _experiment(self, name: str) -> Experiment:
        experiment = self.load(name)
        if self.peers and isinstance(experiment, SwapsPerSecond):
            return cast("Experiment", replace(experiment, peers=tuple(self.peers)))
        return experiment

    def _shown(self, record: Record) -> Record:
        """The record, once its figure is drawn; one without a result if it cannot be shown.

        A mistake in one experiment must not cost the others. Without a result, an older figure goes.
        """
        path = self.folder / f"{record.experiment}.png"
        if record.result is not None:
            try:
                records.check(record)
                experiment = self.load(record.experiment)
                experiment.meaning(record.result), experiment.rows(record.result)
                experiment.draw(record.result, path)
            except Exception as error:
                reason = f"what was measured cannot be shown: {type(error).__name__}: {error}"
                self.plan.tell(f"{record.experiment}: {reason}")
                record = replace_struct(record, result=None, reason=reason)
        if record.result is None:
            path.unlink(missing_ok=True)
        return record

    def _write_page(self, machine: Machine, found: dict[str, Record]) -> None:
        sections = list(self._sections(found))
        content = page.render(machine, self._settings, sections, datetime.now(UTC))
        records.replace(self.folder / "index.html", content.encode())

    def _sections(self, found: dict[str, Record]) -> Iterator[page.Section]:
        for name in self.names:
            experiment = None
            with suppress(PliniusError):
                experiment = self.load(name)
            title = experiment.title if experiment else name
            record = found.get(name)
            if record is None:
                yield page.Section(name, title, missing="not measured yet; the command without --only does it")
            elif record.result is None or experiment is None:
                yield page.Section(name, title, missing=record.reason or "")
            else:
                yield page.Section(
                    name=name,
                    title=title,
                    meaning=experiment.meaning(record.result),
                    rows=experiment.rows(record.result),
                    image=(self.folder / f"{name}.png").read_bytes(),
                    warning=_warning(record),
                    measured=f"{record.measured_at}, in {record.took_s:,.0f} s",
                )


def _warning(record: Record) -> str:
    if record.busy_cores <= _QUIET_CORES:
        return ""
    busy = f"{record.busy_cores:.1f} of {record.machine.cores} cores"
    return f"Other programs kept {busy} busy just before or after it: times are noisy."
