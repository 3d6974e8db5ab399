"""Standard input, output and error: that they are there, and what is said on them."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress

from plinius.files import harmless, reason


def complete() -> None:
    """Puts /dev/null where a stream is closed: else a file that is opened next would be taken for it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number: this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        # A file's name may be no text; and what is said of it, or of a pool that anybody wrote, is only shown.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(text: str) -> None:
    """Writes text to standard output, at once."""
    with _writing():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def tell(*lines: str) -> None:
    """Says lines that may quote what anybody wrote."""
    say("\n".join(map(harmless, lines)))


def answer(json: bool, facts: Mapping[str, object], *lines: str) -> None:
    """Says facts as JSON, or tells lines."""
    if json:
        say(json_module.dumps(facts))
    else:
        tell(*lines)


def complain(text: str) -> None:
    """Prints an error in one line. It may quote what anybody wrote."""
    sys.stderr.write(f"plinius: {harmless(text)}\n")


@contextmanager
def bar(description: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar, where somebody looks, for work that reports (done, total)."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with Progress(transient=True, console=Console(stderr=True)) as shown:
        task = shown.add_task(description, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


class Screen(Console):
    """A console on standard output whose errors are those of `say`."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints."""
        with _writing():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Leaves it to whoever ends the program."""
        raise BrokenPipeError


@contextmanager
def _writing() -> Iterator[None]:
    """Says of an error that it is standard output's; nothing is written there afterwards."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what waits to be written at the end
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(f"cannot write to standard output: {reason(error)}") from None
