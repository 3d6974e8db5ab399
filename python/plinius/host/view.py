"""What the user sees of a running enclave: a progress bar, or a line of JSON for each message."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

import msgspec
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from plinius import wire
from plinius.files import harmless
from plinius.streams import Screen, say

# Where no bar can be drawn (a log, a pipe), a line now and then.
_LINE_EVERY_S = 10
_WIDTH_OF_TIMES, _WIDTH_OF_FACTS, _WIDTH_OF_FACTS_AND_TIMES, _WIDTH_OF_ALL = 40, 72, 90, 100
_STARTING = "starting the enclave"


class JsonView:
    """One line of JSON a message, on standard output."""

    def __call__(self, message: wire.Message) -> None:
        """Prints one message."""
        say(msgspec.json.encode(message).decode())

    def __enter__(self) -> JsonView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""


class _Count(MofNCompleteColumn):
    """Of how many; nothing while that is not known."""

    def render(self, task: Task) -> Text:
        """Of one line."""
        return super().render(task) if task.total is not None else Text()


def _columns(width: int) -> Iterator[ProgressColumn]:
    """What fits, the most telling first; rich would shorten all of them alike."""
    yield TextColumn("{task.description}")
    if width >= _WIDTH_OF_ALL:
        yield BarColumn()
    yield _Count()
    if width >= _WIDTH_OF_FACTS:
        yield TextColumn("{task.fields[facts]}")
    if width >= _WIDTH_OF_FACTS_AND_TIMES or _WIDTH_OF_TIMES <= width < _WIDTH_OF_FACTS:
        yield TimeElapsedColumn()
        yield TimeRemainingColumn()


class TerminalView:
    """A progress bar and short lines.

    Args:
        pool: What the first line calls the pool.
    """

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._console = Screen(highlight=False)
        self._bar = Progress(
            *_columns(self._console.width), console=self._console, disable=not self._console.is_terminal
        )
        self._task: TaskID | None = None
        self._described = ""
        self._told: set[str] = set()
        self._next_line_s = time.monotonic() + _LINE_EVERY_S

    def __enter__(self) -> TerminalView:
        self._bar.start()
        self._show(_STARTING, 0, None, "")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None and self._described == _STARTING:
            self._bar.remove_task(self._task)
        self._bar.stop()

    def __call__(self, message: wire.Message) -> None:
        """Shows one message."""
        match message:
            case wire.PoolOpened(medium=medium, durability=durability, tee=tee):
                protection = "simulated TEE, no hardware protection" if tee == "simulated" else f"TEE: {tee}"
                self._say(f"pool {self._pool} on {medium}: survives {durability}; {protection}")
            case wire.Loading(done=done, total=total):
                self._show("records", done, total, "")
            case wire.Started(step=step, steps=steps, every=every, resumed=resumed, records=records):
                verb = f"resumed after step {step}" if resumed else "started"
                self._say(f"{verb}: {records} records, {steps} steps, mirrored every {every}")
                self._show("steps", step, steps, "")
            case wire.Progress(step=step, durable_step=durable, step_s=step_s, save_s=save_s, loss=loss):
                facts = f"{1 / max(step_s, 1e-9):.1f}/s, mirror {save_s / max(step_s, 1e-9):.1%}, durable {durable}"
                self._advance(step, facts if loss is None else f"{facts}, loss {loss:.4f}")
            case wire.Notice(text=text):
                self._say(text)
            case _:
                pass

    def _say(self, text: str) -> None:
        text = harmless(text)
        if text not in self._told:  # a restarted enclave says the same again
            self._told.add(text)
            self._console.print(text, markup=False, soft_wrap=True)

    def _show(self, described: str, done: int, total: int | None, facts: str) -> None:
        if self._task is None or self._described != described:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(described, total=total, facts=facts)
            self._described = described
        self._bar.update(self._task, completed=done, total=total, facts=facts)

    def _advance(self, step: int, facts: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=step, facts=facts)
        if not self._console.is_terminal and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            self._say(f"step {step}: {facts}")
