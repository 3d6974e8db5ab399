"""Figure 2 in miniature: reads and writes of 4 KiB, with fio's answer and with our own loop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plinius.bench import fig2, storage
from plinius.bench.experiment import Plan
from plinius.bench.fig2 import DISK, FSDAX, MEMORY, Fig2, Size
from plinius.bench.folders import new_folder
from plinius.bench.storage import BLOCK_BYTES, FIO, LOOP, PATTERNS, Load, Pattern, bytes_per_s, lay_out
from plinius.errors import PliniusError

FILE_BYTES = 64 * BLOCK_BYTES
TINY = Fig2(quick=Size((1, 2), FILE_BYTES, 0.01))


def plan(memory: Path, disk: Path) -> Plan:
    return Plan(quick=True, memory=memory, disk=disk, data=None, tell=lambda _: None)


@pytest.fixture
def looped(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no fio."""
    monkeypatch.setattr(storage.shutil, "which", lambda _: None)


@pytest.mark.usefixtures("looped")
def test_every_pattern_is_measured_in_every_place(folder: Path, tmp_path: Path) -> None:
    result = json.loads(json.dumps(TINY.measure(plan(folder, tmp_path))))
    assert result["tool"] == LOOP
    kinds = [place["kind"] for place in result["places"]]
    assert kinds[0] == DISK
    assert len(set(kinds)) == len(kinds)
    points = [(point["pattern"], point["kind"], point["threads"]) for point in result["points"]]
    assert set(points) == {(one.name, kind, threads) for one in PATTERNS for kind in kinds for threads in (1, 2)}
    assert len(set(points)) == len(points)
    assert all(point["mb_per_s"] > 0 for point in result["points"])
    TINY.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert len(TINY.rows(result)) == len(PATTERNS) * len(kinds)
    assert "fio is not installed" in TINY.meaning(result)
    (tmp_path / "out.png").unlink()
    assert not list(folder.iterdir())
    assert not list(tmp_path.glob("plinius-bench-*"))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_what_the_loop_does(pattern: Pattern, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int]] = []

    def watched(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(descriptor: int, *arguments: object) -> object:
            answer = original(descriptor, *arguments)
            done.append((name, arguments[-1] if arguments else answer))
            return answer

        return call

    lay_out(tmp_path, 1, FILE_BYTES)
    before = (tmp_path / "data.0").read_bytes()
    for name in ("preadv", "pwrite", "fsync"):
        monkeypatch.setattr(os, name, watched(name))
    rate = bytes_per_s(Load(tmp_path, pattern, 1, FILE_BYTES, 0.05, direct=False), LOOP)
    operations = [(name, offset) for name, offset in done if name != "fsync"]
    assert {name for name, _ in operations} == {"pwrite" if pattern.writes else "preadv"}
    # A write is durable before the next one begins.
    assert [name for name, _ in done[1::2]] == (
        ["fsync"] * len(operations) if pattern.writes else ["preadv"] * (len(done) // 2)
    )
    offsets = [offset for _, offset in operations]
    in_order = [(number * BLOCK_BYTES) % FILE_BYTES for number in range(len(offsets))]
    assert (offsets != in_order) == pattern.random
    assert all(offset % BLOCK_BYTES == 0 and offset < FILE_BYTES for offset in offsets)
    assert 0 < rate <= len(operations) * BLOCK_BYTES / 0.05
    assert ((tmp_path / "data.0").read_bytes() != before) == pattern.writes


def test_fio_is_asked_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"jobs": [{"read": {"bw_bytes": 5_000_000}, "write": {"bw_bytes": 7_000_000}}]}
    fio = tmp_path / "bin" / "fio"
    fio.parent.mkdir()
    fio.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'asked')!r}, 'w').write(chr(10).join(sys.argv[1:]))\n"
        f"print({json.dumps(answer)!r})\n"
    )
    fio.chmod(0o755)
    monkeypatch.setenv("PATH", str(fio.parent))
    assert storage.tool() == FIO
    read, write = Pattern(writes=False, random=True), Pattern(writes=True, random=False)
    assert bytes_per_s(Load(tmp_path, read, 3, FILE_BYTES, 0.25, direct=True), FIO) == 5_000_000
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"--rw=randread", "--bs=4096", "--numjobs=3", "--direct=1", "--fsync=0", "--runtime=250ms"} <= set(asked)
    assert bytes_per_s(Load(tmp_path, write, 1, FILE_BYTES, 0.25, direct=False), FIO) == 7_000_000
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"--rw=write", "--numjobs=1", "--direct=0", "--fsync=1"} <= set(asked)
    fio.write_text("#!/bin/sh\necho 'no space' >&2\nexit 1\n")
    with pytest.raises(PliniusError, match="no space"):
        bytes_per_s(Load(tmp_path, read, 1, FILE_BYTES, 0.25, direct=False), FIO)
    fio.write_text("#!/bin/sh\necho nothing\n")
    with pytest.raises(PliniusError, match="did not answer"):
        bytes_per_s(Load(tmp_path, read, 1, FILE_BYTES, 0.25, direct=False), FIO)


@pytest.mark.usefixtures("looped")
def test_fsdax_is_found_where_it_is_mounted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pm, off, mounts = tmp_path / "pm", tmp_path / "off", tmp_path / "mounts"
    pm.mkdir()
    off.mkdir()
    lines = [f"/dev/pmem1 {off} ext4 rw,dax=never 0 0", f"/dev/pmem0 {pm} ext4 rw,relatime,dax=always 0 0"]
    mounts.write_text("\n".join([*lines, "proc /proc proc rw 0 0", "tmpfs /no/such tmpfs rw 0 0"]))
    monkeypatch.setattr(fig2, "_MOUNTS", mounts)
    assert list(fig2._others(needed_bytes=1)) == [(FSDAX, pm)]
    assert list(fig2._others(needed_bytes=1 << 60)) == []
    monkeypatch.setattr(fig2, "_kind", lambda _: MEMORY)
    result = TINY.measure(plan(folder, tmp_path))
    assert [place["kind"] for place in result["places"]] == [DISK, MEMORY, FSDAX]
    assert "times as many on tmpfs and " in TINY.meaning(result)


def test_a_folder_has_a_path_that_holds_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fio is started in the folder, and is told of it too."""
    monkeypatch.chdir(tmp_path)
    with new_folder(".") as folder:
        assert folder.is_absolute()
        assert folder.parent == tmp_path


def test_a_folder_without_room_says_so(tmp_path: Path) -> None:
    with pytest.raises(PliniusError, match="cannot lay out files here"):
        lay_out(tmp_path / "none", 1, FILE_BYTES)
