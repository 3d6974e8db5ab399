"""A freshness anchor in a TPM: compare-and-swap, also between processes, and nothing made anew in silence."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plinius.errors import AttestationError, ConfigError, RollbackError
from plinius.mirror.manifest import AnchoredHead
from tpms import SoftwareTpm

AUTH = hashlib.sha256(b"of a run key").digest()
_indexes = itertools.count(0x01800100)


def head(version: int, epoch: int = 1) -> AnchoredHead:
    return AnchoredHead(version, hashlib.sha256(b"%d" % version).digest(), epoch)


@pytest.fixture
def tpm(software_tpm: SoftwareTpm) -> Iterator[Any]:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415 (a package that may be missing)

    with Tpm(software_tpm.connect()) as opened:
        yield opened


@pytest.fixture
def index(tpm: Any) -> int:
    """A number that no test used."""
    return next(_indexes)


def create(tpm: Any, index: int, auth: bytes = AUTH) -> None:
    from plinius.attest import tpm_anchor  # noqa: PLC0415

    tpm_anchor.create(tpm, index, auth)


@pytest.fixture
def anchor(tpm: Any, tmp_path: Path) -> Callable[..., Any]:
    """Opens anchors that do not wait between writes."""
    from plinius.attest.tpm_anchor import Place, TpmAnchor  # noqa: PLC0415

    def opened(index: int, auth: bytes = AUTH, **options: Any) -> Any:
        return TpmAnchor(tpm, Place(index, tmp_path), auth, **{"least_gap_s": 0.0, **options})

    return opened


def test_it_follows_a_job(tpm: Any, index: int, anchor: Any) -> None:
    create(tpm, index)
    ours = anchor(index, every=10)
    assert (ours.every, ours.head()) == (10, None)
    ours.advance(None, head(1))
    ours.advance(head(1), head(5))
    ours.advance(head(5), head(5, epoch=2))  # what restoring does
    assert anchor(index).head() == head(5, epoch=2)
    for _ in range(4):  # a TPM has room for three sessions: nothing may stay in it
        ours.advance(head(5, epoch=2), head(5, epoch=2))


def test_repeating_a_move_writes_nothing(tpm: Any, index: int, anchor: Any, monkeypatch: Any) -> None:
    create(tpm, index)
    ours = anchor(index)
    ours.advance(None, head(1))
    monkeypatch.setattr(tpm.esys, "nv_write", None)
    ours.advance(None, head(1))
    ours.advance(head(7), head(1))


@pytest.mark.parametrize("expected", [None, head(1), head(3), head(2, epoch=2), AnchoredHead(2, bytes(32), 1)])
def test_a_copy_that_was_left_behind(tpm: Any, index: int, anchor: Any, expected: AnchoredHead | None) -> None:
    create(tpm, index)
    ours = anchor(index)
    ours.advance(None, head(2))
    with pytest.raises(RollbackError, match=r"is at version 2 \(epoch 1\), not at"):
        ours.advance(expected, head(9))
    assert ours.head() == head(2)


@pytest.mark.parametrize(
    "lower",
    [
        head(4, epoch=3),
        head(5, epoch=2),
        head(4, epoch=4),
        AnchoredHead(5, bytes(32), 3),
        AnchoredHead(5, bytes(32), 4),
    ],
)
def test_it_goes_back_only_on_purpose(tpm: Any, index: int, anchor: Any, lower: AnchoredHead) -> None:
    create(tpm, index)
    ours = anchor(index)
    ours.advance(None, head(5, epoch=3))
    with pytest.raises(RollbackError, match="does not go back"):
        ours.advance(head(5, epoch=3), lower)
    with pytest.raises(RollbackError, match="not at version 4"):
        ours.advance(head(4, epoch=3), lower if lower != head(4, epoch=3) else head(3), going_back=True)
    ours.advance(head(5, epoch=3), lower, going_back=True)
    assert ours.head() == lower


def test_a_missing_index_is_not_made_anew(tpm: Any, index: int, anchor: Any) -> None:
    ours = anchor(index)
    for _ in range(2):
        for use in (ours.head, lambda: ours.advance(None, head(1)), lambda: ours.advance(head(1), head(2))):
            with pytest.raises(RollbackError, match="is gone: it was deleted, the TPM was cleared, or"):
                use()
    create(tpm, index)
    assert ours.head() is None


def test_a_cleared_tpm_is_noticed(new_tpm: Callable[[], SoftwareTpm], tmp_path: Path) -> None:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415
    from plinius.attest.tpm_anchor import FIRST_INDEX, Place, TpmAnchor  # noqa: PLC0415
    from tpm2_pytss.constants import ESYS_TR  # noqa: PLC0415

    with Tpm(new_tpm().connect()) as tpm:
        create(tpm, FIRST_INDEX)
        ours = TpmAnchor(tpm, Place(FIRST_INDEX, tmp_path), AUTH, least_gap_s=0)
        ours.advance(None, head(3))
        tpm.esys.clear(ESYS_TR.LOCKOUT)
        with pytest.raises(RollbackError, match="is gone"):
            ours.advance(head(3), head(4))


def test_an_index_that_somebody_made_anew(tpm: Any, index: int, anchor: Any) -> None:
    """Whoever owns the machine can delete the index, but not write one for the run key."""
    create(tpm, index)
    ours = anchor(index)
    ours.advance(None, head(3))
    tpm.esys.nv_undefine_space(tpm.esys.tr_from_tpmpublic(index))
    create(tpm, index, hashlib.sha256(b"of the attacker").digest())
    for use in (ours.head, lambda: ours.advance(None, head(1))):
        with pytest.raises(RollbackError, match="belongs to another run key"):
            use()


def test_nobody_else_reads_or_writes_it(tpm: Any, index: int, anchor: Any) -> None:
    from tpm2_pytss import TSS2_Exception  # noqa: PLC0415
    from tpm2_pytss.constants import ESYS_TR  # noqa: PLC0415

    create(tpm, index)
    anchor(index).advance(None, head(3))
    handle = tpm.esys.tr_from_tpmpublic(index)
    for use in (
        lambda: tpm.esys.nv_read(handle, 48),
        lambda: tpm.esys.nv_read(handle, 48, 0, ESYS_TR.OWNER),
        lambda: tpm.esys.nv_write(handle, bytes(48)),
        lambda: tpm.esys.nv_write(handle, bytes(48), 0, ESYS_TR.OWNER),
    ):
        with pytest.raises(TSS2_Exception):
            use()
    for _ in range(40):  # guesses lock nobody out
        with pytest.raises(RollbackError, match="another run key"):
            anchor(index, bytes(32)).head()
    assert anchor(index).head() == head(3)


def test_the_authorization_value_never_crosses_in_plain(tpm: Any, index: int, anchor: Any, monkeypatch: Any) -> None:
    seen = bytearray()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: seen.extend(data) or write(descriptor, data))
    create(tpm, index)
    anchor(index).advance(None, head(1))
    monkeypatch.undo()
    assert index.to_bytes(4, "big") in seen
    assert AUTH not in seen


def test_a_proxy_that_answers_with_yesterday(tpm: Any, index: int, anchor: Any, monkeypatch: Any) -> None:
    """The operating system is trusted; but an answer replayed between process and TPM does not get through either."""
    create(tpm, index)
    ours = anchor(index)
    ours.advance(None, head(1))
    read, recorded = os.read, []
    monkeypatch.setattr(os, "read", lambda *what: recorded.append(read(*what)) or recorded[-1])
    assert ours.head() == head(1)
    monkeypatch.undo()
    ours.advance(head(1), head(2))
    (yesterday,) = [answer for answer in recorded if head(1).digest in answer]

    def replayed(*what: Any) -> bytes:
        answer = read(*what)
        return yesterday if head(2).digest in answer else answer

    monkeypatch.setattr(os, "read", replayed)
    with pytest.raises(AttestationError):
        ours.head()


def test_creating_is_explicit_and_once(tpm: Any, index: int) -> None:
    create(tpm, index)
    with pytest.raises(ConfigError, match="already"):
        create(tpm, index)


def test_creation_that_was_cut_off(tpm: Any, index: int, anchor: Any, monkeypatch: Any) -> None:
    """A power cut between making the index and its first write."""

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tpm.esys, "nv_write", cut)
    with pytest.raises(KeyboardInterrupt):
        create(tpm, index)
    monkeypatch.undo()
    with pytest.raises(RollbackError, match="was never finished: create it again"):
        anchor(index).head()
    with pytest.raises(AttestationError):
        create(tpm, index, bytes(32))  # whoever has another key
    create(tpm, index)
    assert anchor(index).head() is None


@pytest.mark.parametrize("number", [0x01000001, 0x01C00002, 0x81010001])
def test_only_indexes_that_the_owner_hands_out(tpm: Any, anchor: Any, number: int) -> None:
    for use in (lambda: create(tpm, number), lambda: anchor(number)):
        with pytest.raises(ConfigError, match="NV index of an anchor is in 0x1800000 to 0x1bfffff"):
            use()


def test_writes_keep_a_distance_and_say_so(tpm: Any, index: int, anchor: Any) -> None:
    create(tpm, index)
    told: list[float] = []
    ours = anchor(index, least_gap_s=0.4, waiting=told.append)
    began = time.monotonic()
    ours.advance(None, head(1))
    assert not told
    ours.advance(head(1), head(2))
    assert time.monotonic() - began >= 0.4
    assert len(told) == 1
    assert 0 < told[0] <= 0.4
    ours.advance(head(1), head(2))  # no write, no wait
    anchor(index, least_gap_s=0.4, waiting=told.append).advance(head(2), head(3))  # another process's write counts
    assert len(told) == 2


def test_a_clock_that_jumps_is_not_waited_for(tpm: Any, index: int, anchor: Any, tmp_path: Path) -> None:
    create(tpm, index)
    ours = anchor(index, least_gap_s=30.0, waiting=lambda seconds: pytest.fail(f"waits {seconds} s"))
    (lock,) = tmp_path.iterdir()
    for text in (b"", b"short", b"\xff" * 8, b"\0\0\0\0\0\0\xf0\x7f"):
        lock.write_bytes(text)
        before = ours.head()
        ours.advance(before, head(before.version + 1 if before else 1))


def test_a_minute_is_the_least_by_default(tpm: Any, index: int, tmp_path: Path, monkeypatch: Any) -> None:
    from plinius.attest.tpm_anchor import Place, TpmAnchor  # noqa: PLC0415

    create(tpm, index)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    ours = TpmAnchor(tpm, Place(index, tmp_path), AUTH)
    ours.advance(None, head(1))
    ours.advance(head(1), head(2))
    assert slept == [pytest.approx(60, abs=5)]


def test_a_lock_that_cannot_be_opened(tpm: Any, index: int, anchor: Any, tmp_path: Path) -> None:
    (tmp_path / f"plinius-tpm-{index:08x}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot open the lock"):
        anchor(index)


def test_a_tpm_that_dies(new_tpm: Callable[[], SoftwareTpm], tmp_path: Path) -> None:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415
    from plinius.attest.tpm_anchor import FIRST_INDEX, Place, TpmAnchor  # noqa: PLC0415

    software = new_tpm()
    with Tpm(software.connect()) as tpm:
        create(tpm, FIRST_INDEX)
        ours = TpmAnchor(tpm, Place(FIRST_INDEX, tmp_path), AUTH, least_gap_s=0)
        ours.advance(None, head(1))
        software.kill()
        for use in (ours.head, lambda: ours.advance(head(1), head(2)), lambda: create(tpm, FIRST_INDEX + 1)):
            with pytest.raises(AttestationError, match="no TPM answers, to") as raised:
                use()
            assert "\n" not in str(raised.value)


COMPETITOR = """
import hashlib, socket, sys
from pathlib import Path
from plinius.attest.tpm import Tpm
from plinius.attest.tpm_anchor import Place, TpmAnchor
from plinius.errors import RollbackError
from plinius.mirror.manifest import AnchoredHead

path, index, auth, folder, name, moves = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
won = 0
with Tpm(connection.fileno()) as tpm:
    anchor = TpmAnchor(tpm, Place(int(index), Path(folder)), bytes.fromhex(auth), least_gap_s=0)
    print("ready", flush=True)
    sys.stdin.readline()
    while won < int(moves):
        head = anchor.head()
        digest = hashlib.sha256(name.encode()).digest()
        try:
            anchor.advance(head, AnchoredHead(head.version + 1 if head else 1, digest, 0))
            won += 1
        except RollbackError:
            pass
print(won)
"""


def test_two_processes_never_both_move_it(
    software_tpm: SoftwareTpm, tpm: Any, index: int, anchor: Any, tmp_path: Path
) -> None:
    """Both count upwards as fast as they can: a move that both took for theirs would be counted twice."""
    create(tpm, index)
    moves = 25
    command = [sys.executable, "-c", COMPETITOR, str(software_tpm.path), str(index), AUTH.hex(), str(tmp_path)]
    processes = [
        subprocess.Popen([*command, name, str(moves)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("one", "other")
    ]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert said == [f"{moves}\n"] * 2
    assert anchor(index).head().version == 2 * moves
