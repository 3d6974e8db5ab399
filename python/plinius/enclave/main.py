"""The enclave process: the host starts it with two channels and the descriptors that it needs, and nothing else."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from plinius import process
from plinius.errors import ConfigError, PliniusError
from plinius.wire import MAX_POOL_FRAME_BYTES, Channel, Command, Failed, Infer, Message, Notice, Train, TrainManifest

_MAX_CFG_BYTES: Final = 1 << 20


def main() -> None:
    """Hardens the process, serves one command of the host, and ends."""
    options = _parse_options()
    process.die_with(options.parent)
    process.leave_no_traces()
    process.leave_stopping_to_the_host()
    serve(options)


def serve(options: argparse.Namespace) -> None:
    """Serves one command; whatever goes wrong is told to the host in one message."""
    with closing(Channel(socket.socket(fileno=options.channel))) as channel:
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
    # The framework is loaded before the sandbox, and the sandbox entered before the key arrives.
    run = _load(command, channel)
    warnings.showwarning = _as_notices(channel)
    channel.send(run(options))


def _load(command: Train | Infer | TrainManifest, channel: Channel) -> Callable[[argparse.Namespace], Message]:
    """Imports what the command needs; what it returns asks for the key and runs the command."""
    # Landlock holds for one thread and what it starts later: no library may start one when it is loaded.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import torch  # noqa: F401, PLC0415 (2 s: after the process is hardened, and not for its --help)

    from plinius.attest.attesters import Platform  # noqa: PLC0415
    from plinius.enclave import commands  # noqa: PLC0415
    from plinius.enclave.hosted import HostedPool, host_at, look_at  # noqa: PLC0415
    from plinius.enclave.provisioning import Ordered  # noqa: PLC0415

    def run(options: argparse.Namespace) -> Message:
        host = host_at(Channel(socket.socket(fileno=options.pool_channel), MAX_POOL_FRAME_BYTES))
        medium = look_at(options.pool, command.pool_name)  # asks /sys, which the sandbox does not let it read

        def open_pool() -> HostedPool:
            return HostedPool(host, options.pool, command.pool_name, medium)

        if isinstance(command, TrainManifest):
            ordered = Ordered.read(command.manifest)
            platform = Platform.open(options.tee, options.tpm, ordered.manifest.job_id)
            _prepare(channel, options)
            work = commands.Work(channel, platform, open_pool, options.data)
            return commands.train_manifest(work, command, ordered)
        cfg = _read_whole(options.cfg, command.cfg_name)
        platform = Platform.open(options.tee, options.tpm, None)
        _prepare(channel, options)
        work = commands.Work(channel, platform, open_pool, options.data)
        return commands.infer(work, command, cfg) if isinstance(command, Infer) else commands.train(work, command, cfg)

    return run


def _prepare(channel: Channel, options: argparse.Namespace) -> None:
    """Does all that needs files for the last time, and shuts the door: after this comes the key.

    Raises:
        EnclaveError: The kernel lacks a part of the sandbox.
    """
    from plinius.enclave import rehearsal, sandbox  # noqa: PLC0415 (not before the process is hardened)
    from plinius.seal import key_custody  # noqa: PLC0415

    rehearsal.rehearse()
    for missing in sandbox.enter(insecurely=options.insecure_no_sandbox):
        channel.send(Notice(f"insecure: the enclave is not in its sandbox: {missing}"))
    if (custody := key_custody()) == "plain":
        channel.send(Notice(f"the key's memory is {custody}: it can be swapped to a disk; raise ulimit -l"))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The enclave process; `plinius train` starts it.")
    parser.add_argument("--insecure-no-sandbox", action="store_true", help="go on where the kernel lacks a part of it")
    for name in ("parent", "channel", "pool-channel", "pool", "data"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--cfg", type=int, help="not needed for a manifest, which holds it")
    parser.add_argument("--tpm", type=int, help="a TPM, for a job with a manifest")
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
    """The class of an error and where it was raised, without the source line, which lies in a file."""
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        where = f" in {Path(frame.f_code.co_filename).name}, line {line}"
    return f"{type(error).__name__}{where}"


if __name__ == "__main__":
    main()
