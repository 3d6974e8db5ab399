"""`make dax`: Plinius in a virtual machine with persistent memory, and with what only looks like it.

QEMU emulates everything in software, so neither KVM nor persistent memory is needed. docs/design.md says what this
proves and what it cannot.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import debian
import initramfs
from cases import CASES
from checks import Guests, medium, tests
from kills import AIMS, kills
from machine import CheckError, Image

CACHE: Final = Path(__file__).resolve().parent.parent.parent / ".cache" / "dax"


def main() -> None:
    """Runs every check, a line each; a failure makes the exit status nonzero."""
    began_s = time.monotonic()
    try:
        guests = Guests(prepare(), CACHE / "run")
    except debian.SetupError as error:
        raise SystemExit(f"dax: {error}") from None
    shutil.rmtree(guests.folder, ignore_errors=True)
    guests.folder.mkdir()
    checks = {case.name: partial(medium, guests, case) for case in CASES}
    checks |= {"the pool's tests on fsdax": partial(tests, guests)}
    checks |= {f"fsdax, the machine killed {len(AIMS)} times while it commits": partial(kills, guests)}
    held = [holds(name, check) for name, check in checks.items()]
    boots = (
        f"{len(guests.boots_s)} boots of {min(guests.boots_s, default=0):.0f} to {max(guests.boots_s, default=0):.0f} s"
    )
    say(f"dax: {sum(held)} of {len(held)} hold; {boots}; {time.monotonic() - began_s:.0f} s in all")
    if not all(held):
        raise SystemExit(1)
    shutil.rmtree(guests.folder)


def prepare() -> Image:
    """Kernel and initramfs of the guest.

    Raises:
        debian.SetupError: Something has to be installed first.
    """
    debian.require_tools()
    CACHE.mkdir(parents=True, exist_ok=True)
    kernel = debian.unpacked_kernel(CACHE)
    busybox = debian.unpacked("busybox-static", CACHE) / "bin" / "busybox"
    archive = CACHE / "initramfs"
    archive.write_bytes(initramfs.make(kernel, busybox, Path(__file__).resolve().parent / "guest" / "init"))
    (program,) = kernel.glob("boot/vmlinuz-*")
    return Image(program, archive)


def holds(name: str, check: Callable[[], str]) -> bool:
    """Runs one check and says how it went."""
    began_s = time.monotonic()
    try:
        seen, held = check(), True
    except CheckError as failure:
        seen, held = str(failure), False
    say(f"{'ok    ' if held else 'FAILED'}  {name}: {seen} ({time.monotonic() - began_s:.0f} s)")
    return held


def say(line: str) -> None:
    """Prints one line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
