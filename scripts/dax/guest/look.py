"""Inside the guest: what a pool on the device under test says of itself, and what the kernel says of its mapping."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from plinius import Pool


def main() -> None:
    """Prints the facts as JSON."""
    path = sys.argv[1]
    with Pool(path) as pool:
        facts = {
            "medium": pool.medium,
            "durability": pool.durability,
            "flush": pool.core.flush,
            "map_sync": "sf" in flags_of_mapping(path),
        }
    print(json.dumps(facts))


def flags_of_mapping(path: str) -> set[str]:
    """The flags that all of this process's mappings of a file have ("sf" is MAP_SYNC)."""
    found: list[set[str]] = []
    mapped = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *rest = line.split(maxsplit=5)
        if not key.endswith(":"):  # the head of a mapping: addresses, access, offset, device, inode, file
            mapped = rest[-1]
        elif key == "VmFlags:" and mapped == path:
            found.append(set(line.split()[1:]))
    return set.intersection(*found)


if __name__ == "__main__":
    main()
