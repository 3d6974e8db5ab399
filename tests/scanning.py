"""Looking for secrets where they must not be: in files, and in the memory of processes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Needles = Mapping[str, list[bytes]]

WINDOW_BYTES = 16
"""Long enough that random bytes do not hold it by chance."""


def found(needles: Needles, haystack: Iterable[bytes]) -> set[str]:
    """The kinds of which at least one needle is somewhere."""
    missing = dict(needles)
    for part in haystack:
        for kind in [kind for kind, each in missing.items() if any(needle in part for needle in each)]:
            del missing[kind]
    return set(needles) - set(missing)


def memory(process: int, rights: str = "rw..") -> Iterator[bytes]:
    """The memory of a process, mapping by mapping.

    Args:
        process: Stopped, or one that does not change its mappings.
        rights: Which mappings, as a pattern of the second column of ``/proc/PID/maps``.
    """
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            place = re.match(rf"([0-9a-f]+)-([0-9a-f]+) {rights} (.*)", line)
            if place and "[v" not in line:  # [vvar], [vsyscall]: the kernel's own
                first, end = (int(address, 16) for address in place.groups()[:2])
                file.seek(first)
                try:
                    yield file.read(end - first)
                except OSError:
                    assert "/secretmem" in line, line


def in_memory(needles: Needles, process: int, rights: str = "rw..") -> set[str]:
    """The kinds of which at least one needle is in the memory of a process."""
    return found(needles, memory(process, rights))


def of_key(text: str) -> dict[str, list[bytes]]:
    """The secret of a key file, as bytes and as its text."""
    secret = text.split()[3]
    return {
        "the key": [bytes.fromhex(secret)[at : at + WINDOW_BYTES] for at in (0, 16)],
        "the text of the key": [secret[:32].encode(), secret[32:].encode()],
    }
