"""`plinius status`: what anybody may know of a pool, without a key, even while it is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from plinius import dataset, pool
from plinius.mirror import public_mirrors
from plinius.pool.values import user_names


def describe(path: str) -> dict[str, Any]:
    """The public facts of a pool; none of them is verified.

    Raises:
        PoolError: There is no pool, or it is damaged.
    """
    found = pool.status(path)
    entries = [(entry.name, entry.meta, entry.occupied_bytes) for entry in found.entries]
    mirrors = [
        {
            "name": mirror.name,
            "step": mirror.step,
            "version": mirror.version,
            "restored_times": mirror.epoch - 1,
            "saved_at": datetime.fromtimestamp(mirror.saved_at_ns / 1e9, UTC).isoformat(timespec="seconds"),
            "cipher": mirror.cipher,
            "key_id": mirror.key_id,
            "bytes": mirror.buffers_bytes,
        }
        for mirror in public_mirrors(entries)
    ]
    data = [
        {"id": header.id.hex(), "records": header.count, "key_id": header.key_id.hex(), "bytes": size}
        for header, size in dataset.public_headers(entries)
    ]
    # The heap is there twice.
    occupied_bytes = 2 * found.heap_used_bytes + sum(size for _, _, size in entries)
    return {
        "path": path,
        "pool_id": found.pool_id,
        "bytes": found.bytes,
        "occupied_bytes": occupied_bytes,
        "state": found.state,
        "commits": found.commits,
        "medium": found.medium,
        "durability": found.durability,
        "mirrors": mirrors,
        "data_sets": data,
        "values": user_names(entry.name for entry in found.entries),
    }


def explain(facts: dict[str, Any]) -> list[str]:
    """The same in sentences, a line each."""
    lines = [
        f"{facts['path']}: pool {facts['pool_id']} on {facts['medium']}; survives a {facts['durability']}",
        f"{_mb(facts['bytes'])}, {_mb(facts['occupied_bytes'])} of it occupied; {facts['commits']} commits"
        + ("" if facts["state"] == "Idle" else f"; a commit is running or was cut ({facts['state']})"),
    ]
    lines += [
        f"mirror {m['name']}: durable step {m['step']} (version {m['version']}, saved {m['saved_at']}), "
        f"{_mb(m['bytes'])}, {m['cipher']}, key {m['key_id']}; the next save needs as much again"
        for m in facts["mirrors"]
    ]
    lines += [
        f"data set {d['id']}: {d['records']} records, {_mb(d['bytes'])}, key {d['key_id']}" for d in facts["data_sets"]
    ]
    if facts["values"]:
        lines.append(f"arrays and lists of arrays, not encrypted: {len(facts['values'])}")
    return lines


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
