"""The media that the guest is given, and what Plinius has to say of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from machine import Device


@dataclass(frozen=True)
class Seen:
    """What the guest reports of a pool on its device.

    Attributes:
        medium: The medium, in words.
        durability: What a commit survives.
        flush: How it is made durable.
        map_sync: Whether the kernel maps it with MAP_SYNC.
    """

    medium: str
    durability: str
    flush: str
    map_sync: bool

    def __str__(self) -> str:
        mapping = "MAP_SYNC" if self.map_sync else "no MAP_SYNC"
        return f"{self.medium}; {self.flush}; {mapping}; survives {self.durability}"


@dataclass(frozen=True)
class Case:
    """A medium and what is expected of it."""

    name: str
    device: Device
    expected: Seen


_FILE: Final = Seen("file", "power failure", "fdatasync", map_sync=False)
_UNPROVEN: Final = Seen("DAX without a known persistence domain", "process crash", "fdatasync", map_sync=True)

FSDAX: Final = Device(machine=",nvdimm-persistence=mem-ctrl", namespace="fsdax")
CASES: Final = (
    Case(
        "fsdax, flushed to the memory controller",
        FSDAX,
        Seen("persistent memory (fsdax, flushed to the memory controller)", "power failure", "clwb", map_sync=True),
    ),
    Case(
        "fsdax, caches persist",
        Device(machine=",nvdimm-persistence=cpu", namespace="fsdax"),
        Seen("persistent memory (fsdax, caches included)", "power failure", "none", map_sync=True),
    ),
    Case("fsdax, firmware tells no persistence domain", Device(namespace="fsdax"), _UNPROVEN),
    Case("raw namespace, ext4 without dax", Device(machine=FSDAX.machine, mount="defaults"), _FILE),
    # Ordinary memory that the kernel's command line calls persistent.
    Case("memmap=, ext4 with dax", Device(hardware=(), kernel="memmap=256M!512M"), _UNPROVEN),
    # Its bytes are in the host's page cache: only a request to the host makes them durable.
    Case("virtio-pmem, ext4 with dax", Device(hardware=("-device", "virtio-pmem-pci,memdev=memory")), _FILE),
)
