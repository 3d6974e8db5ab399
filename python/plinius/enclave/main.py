"""The enclave process: it is started by the host with a channel and three descriptors, and nothing else."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from plinius import process
from plinius.errors import ConfigError, PliniusError
from plinius.wire import Channel, Command, Failed, Infer, Message, Notice, Train, TrainManifest

_MAX_CFG_BYTES: Final = 1 << 20


def main() -> None:
    """Hardens the process, serves one command of the host, and ends."""
    options = _parse_options()
    process.die_with(options.parent)
    process.leave_no_traces()
    process.ignore_the_keyboard()
    serve(options)


def serve(options: argparse.Namespace) -> None:
    """Serves one command; whatever goes wrong is told to the host in one message."""
    channel = Channel(socket.socket(fileno=options.channel))
    try:
        _serve(channel, options)
    except PliniusError as error:
        _send_last(channel, Failed(type(error).__name__, str(error)))
    except BaseException as error:
        _send_last(channel, Failed("EnclaveError", f"internal error: {_place(error)}; please report it"))


def _serve(channel: Channel, options: argparse.Namespace) -> None:
    command = channel.receive(Command)
    if not isinstance(command, Command):
        return
    # The framework is loaded before the key arrives: from then on nothing new is.
    run = _load(command, channel)
    warnings.showwarning = _as_notices(channel)
    channel.send(run(options))


def _load(command: Train | Infer | TrainManifest, channel: Channel) -> Callable[[argparse.Namespace], Message]:
    """Imports what the command needs; what it returns asks for the key and runs the command."""
    import torch  # noqa: F401, PLC0415 (2 s: after the process is hardened, and not for its --help)

    from plinius.attest.attesters import open_attester  # noqa: PLC0415
    from plinius.enclave import commands  # noqa: PLC0415

    def run(options: argparse.Namespace) -> Message:
        work = commands.Work(channel, open_attester(options.tee), options.pool, options.data)
        if isinstance(command, TrainManifest):
            return commands.train_manifest(work, command)
        cfg = _read_whole(options.cfg, command.cfg_name)
        if isinstance(command, Infer):
            return commands.infer(work, command, cfg)
        return commands.train(work, command, cfg)

    return run


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The enclave process; `plinius train` starts it.")
    for name in ("parent", "channel", "pool", "data"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--cfg", type=int, help="not needed for a manifest, which holds it")
    parser.add_argument("--tee", default="simulated")
    return parser.parse_args()


def _read_whole(descriptor: int, name: str) -> bytes:
    """The cfg is read once, and these bytes are both measured and parsed."""
    content = os.pread(descriptor, _MAX_CFG_BYTES + 1, 0)
    if len(content) > _MAX_CFG_BYTES:
        raise ConfigError(f"a cfg has at most {_MAX_CFG_BYTES} bytes", path=name)
    return content


def _as_notices(channel: Channel) -> Callable[..., None]:
    from plinius.mirror import ExactnessWarning, RollbackWarning  # noqa: PLC0415 (not before the process is hardened)

    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        ours = isinstance(message, ExactnessWarning | RollbackWarning)
        # The text of another's warning might hold a secret: only its place is told.
        text = str(message) if ours else f"{category.__name__} in {Path(filename).name}, line {lineno}"
        if text not in told and issubclass(category, UserWarning):
            told.add(text)
            channel.send(Notice(text))

    return show


def _send_last(channel: Channel, message: Message) -> None:
    try:
        channel.send(message)
    except PliniusError:
        sys.exit(1)


def _place(error: BaseException) -> str:
    trace: TracebackType | None = error.__traceback__
    frames = traceback.extract_tb(trace)
    last = frames[-1] if frames else None
    where = f" in {Path(last.filename).name}, line {last.lineno}" if last else ""
    return f"{type(error).__name__}{where}"


if __name__ == "__main__":
    main()
