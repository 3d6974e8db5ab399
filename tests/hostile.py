"""Both ends of a channel, for tests in which the other side lies: each lie must end in one clear error."""

from __future__ import annotations

import argparse
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inside import start_thread
from plinius.attest.report import report_data
from plinius.wire import (
    Challenge,
    Channel,
)

GARBAGE = b"\x04\0\0\0\xff\xff\xff\xff"
HUGE = struct.pack("<I", 0xFFFFFFFF)
HALF = struct.pack("<I", 100) + b"half"


@contextmanager
def talk_to(serve: Callable[[argparse.Namespace], None], **options: object) -> Iterator[tuple[Channel, socket.socket]]:
    """Our end of a channel to a process's code, which runs as a thread and must be at its end afterwards."""
    served = start_thread(serve, **options)
    with served.channel._socket as ours:
        ours.settimeout(20)
        yield served.channel, ours
    served.process.wait(20)


def bound_to(challenge: Challenge, public_key: bytes) -> bytes:
    return report_data(challenge.session, challenge.nonce, public_key, b"", b"")
