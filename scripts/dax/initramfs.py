"""The guest's initramfs: busybox, the kernel modules in the order in which they are loaded, and our init."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# crc32c_generic: ext4 asks for it at run time, so it is nobody's dependency.
_MODULES: Final = (
    *("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4"),
    *("nfit", "nd_e820", "virtio_pmem", "nd_pmem"),
)
_FOLDER: Final = 0o040755
_PROGRAM: Final = 0o100755


def make(kernel: Path, busybox: Path, init: Path) -> bytes:
    """The archive.

    Args:
        kernel: Folder of an unpacked kernel package.
        busybox: A static busybox.
        init: The first program of the guest.
    """
    files = [("bin", _FOLDER, b""), ("modules", _FOLDER, b"")]
    files += [("bin/busybox", _PROGRAM, busybox.read_bytes()), ("init", _PROGRAM, init.read_bytes())]
    for number, module in enumerate(_in_order(kernel)):
        files.append((f"modules/{number:02}.ko", _PROGRAM, module))
    return _cpio(files)


def _in_order(kernel: Path) -> list[bytes]:
    """The modules and what they need, each after what it needs."""
    paths = {path.name.split(".")[0].replace("-", "_"): path for path in kernel.rglob("*.ko*")}
    loaded: dict[str, bytes] = {}

    def load(name: str) -> None:
        if name in loaded or name not in paths:  # not in paths: built into this kernel
            return
        module = _contents(paths[name])
        needed = re.search(rb"\0depends=([^\0]*)\0", module)
        for other in needed[1].decode().split(",") if needed else []:
            load(other.replace("-", "_"))
        loaded[name] = module

    for name in _MODULES:
        load(name)
    return list(loaded.values())


def _contents(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _cpio(files: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive in the format that the kernel reads ("newc")."""
    archive = bytearray()
    for number, (name, mode, contents) in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1):
        fields = (number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + contents
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
