"""Attesters of TDX and SEV-SNP guests (configfs-tsm) and of Gramine, with folders that behave as the kernel's do."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plinius.attest import tsm
from plinius.attest.gramine import GramineAttester
from plinius.attest.tsm import TsmAttester
from plinius.errors import EvidenceError

REPORT_DATA = bytes(range(32))
VCEK, ASK, ARK = (uuid.UUID(text) for text in (
    "63da758d-e664-4564-adc5-f4b93be8accd",
    "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "c0b406a4-a803-4952-9743-3fb6014cd0ae",
))  # fmt: skip


def table(*entries: tuple[uuid.UUID, bytes]) -> bytes:
    """An SNP certificate table."""
    offset, header, blobs = 24 * (len(entries) + 1), b"", b""
    for guid, blob in entries:
        header += guid.bytes + struct.pack("<II", offset + len(blobs), len(blob))
        blobs += blob
    return header + bytes(24) + blobs


class Kernel:
    """Plays configfs-tsm in a folder: an entry's files appear with it, and threads wait for what is written.

    As in the kernel, `inblob` counts when it is closed, the report is made when `outblob` is read, and removing an
    entry removes its files.

    Attributes:
        races: In how many entries somebody else writes too.
        fails: Whether no report is made.
    """

    def __init__(self, root: Path, provider: str, auxiliary: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.provider, self.auxiliary = root, provider, auxiliary
        self.races, self.fails = 0, False
        self.inblobs: list[bytes] = []
        self._mkdir, self._rmdir, self._threads = os.mkdir, os.rmdir, list[threading.Thread]()
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        self._mkdir(name, mode, dir_fd=dir_fd)
        entry = self.root / name
        (entry / "generation").write_text("0\n")
        (entry / "provider").write_text(f"{self.provider}\n")
        for file in ("inblob", "outblob"):
            os.mkfifo(entry / file)
        if self.auxiliary is not None:
            (entry / "auxblob").write_bytes(self.auxiliary)
        self._threads.append(threading.Thread(target=self._serve, args=(entry,), daemon=True))
        self._threads[-1].start()

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        for file in (self.root / name).iterdir():
            file.unlink()
        self._rmdir(name, dir_fd=dir_fd)

    def _serve(self, entry: Path) -> None:
        with (entry / "inblob").open("rb") as inblob, (entry / "outblob").open("wb") as outblob:
            written = inblob.read()  # until it is closed
            if not written or self.fails:
                return
            self.inblobs.append(written)
            generation = 1
            if self.races:
                self.races, generation, written = self.races - 1, 2, bytes(64)
            (entry / "generation").write_text(f"{generation}\n")
            outblob.write(b"report of " + written)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Kernel]]:
    kernels: list[Kernel] = []

    def boot(provider: str, auxiliary: bytes | None = None) -> Kernel:
        kernels.append(Kernel(tmp_path, provider, auxiliary, monkeypatch))
        return kernels[-1]

    yield boot
    for booted in kernels:
        booted.join()


def read(evidence: bytes) -> list[Any]:
    return msgspec.msgpack.decode(evidence)


def test_a_tdx_quote(kernel: Any, tmp_path: Path) -> None:
    booted = kernel("tdx_guest")
    attester = TsmAttester(tmp_path)
    assert (attester.tee, attester.introduce()) == ("tdx", b"")
    padded = REPORT_DATA + bytes(32)
    assert read(attester.attest(REPORT_DATA, b"")) == ["quote", b"report of " + padded, ""]
    assert booted.inblobs == [padded]
    attester.close()
    assert not list(tmp_path.iterdir())


def test_an_snp_report_with_its_certificates(kernel: Any, tmp_path: Path) -> None:
    kernel("sev_guest", table((ARK, b"ark"), (uuid.uuid4(), b"?"), (VCEK, b"\xff" * 99), (ASK, b"ask")))
    attester = TsmAttester(tmp_path)
    assert attester.tee == "snp"
    made = read(attester.attest(REPORT_DATA, b""))
    assert made == ["snp", b"report of " + REPORT_DATA + bytes(32), [b"\xff" * 99, b"ask", b"ark"], b""]
    attester.close()


def test_the_verifiers_read_these_forms() -> None:
    """Where they are installed: they are written beside this."""
    dcap, snp = (pytest.importorskip(f"plinius.attest.{name}") for name in ("dcap", "snp"))
    assert msgspec.msgpack.encode(("quote", b"q", "")) == msgspec.msgpack.encode(dcap.QuoteEvidence(b"q"))
    made = snp.SnpEvidence(b"r", (b"v", b"s", b"k"))
    assert msgspec.msgpack.encode(("snp", b"r", (b"v", b"s", b"k"), b"")) == msgspec.msgpack.encode(made)


@pytest.mark.parametrize("auxiliary", [None, b"", bytes(24), bytes(4096), table((VCEK, b"v"), (ASK, b"a"))])
def test_an_snp_host_that_gives_no_certificates(kernel: Any, tmp_path: Path, auxiliary: bytes | None) -> None:
    kernel("sev_guest", auxiliary)
    attester = TsmAttester(tmp_path)
    assert read(attester.attest(REPORT_DATA, b""))[2] == []
    attester.close()


def test_a_table_that_points_behind_its_end() -> None:
    good = table((VCEK, b"vcek"), (ASK, b"ask"), (ARK, b"ark"))
    with pytest.raises(EvidenceError, match="behind its end"):
        tsm.certificates(good[:-1])
    with pytest.raises(EvidenceError, match="behind its end"):
        tsm.certificates(VCEK.bytes + b"\xff" * 8)


def test_the_order_of_a_guids_bytes() -> None:
    """As bytes, so that it is not this test's table that agrees with itself."""
    entry = bytes.fromhex("63da758de6644564adc5f4b93be8accd") + struct.pack("<II", 72, 1)
    entry += bytes.fromhex("4ab7b379bbac4fe4a02f05aef327c782") + struct.pack("<II", 73, 1)
    entry += bytes.fromhex("c0b406a4a803495297433fb6014cd0ae") + struct.pack("<II", 74, 1)
    assert tsm.certificates(entry + b"vsk") == (b"v", b"s", b"k")


@pytest.mark.parametrize("races", [1, 2])
def test_another_writer_in_between(kernel: Any, tmp_path: Path, races: int) -> None:
    """Its report binds something else; the attester notices by the generation and tries again."""
    booted = kernel("tdx_guest")
    attester = TsmAttester(tmp_path)
    booted.races = races
    assert read(attester.attest(REPORT_DATA, b""))[1] == b"report of " + REPORT_DATA + bytes(32)
    assert len(booted.inblobs) == races + 1
    attester.close()


def test_another_writer_all_the_time(kernel: Any, tmp_path: Path) -> None:
    booted = kernel("tdx_guest")
    attester = TsmAttester(tmp_path)
    booted.races = 100
    with pytest.raises(EvidenceError, match="disturbed by another writer"):
        attester.attest(REPORT_DATA, b"")
    assert len(booted.inblobs) == tsm.ATTEMPTS
    attester.close()
    assert not list(tmp_path.iterdir())


def test_after_the_start_nothing_is_opened(kernel: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """As in a sandbox: no file can be opened and no folder removed, and the report is made all the same."""
    booted = kernel("tdx_guest")
    attester = TsmAttester(tmp_path)

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as sandbox:
        sandbox.setattr(os, "open", forbidden)
        sandbox.setattr(os, "rmdir", forbidden)
        assert read(attester.attest(REPORT_DATA, b""))[0] == "quote"
        attester.close()
    booted.join()
    assert len(list(tmp_path.iterdir())) == tsm.ATTEMPTS


def test_what_a_dead_process_left_is_removed(kernel: Any, tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    stale, alive = tmp_path / f"plinius-{int(dead.stdout)}-0", tmp_path / f"plinius-{os.getpid()}-0"
    others = tmp_path / "somebody-else"
    for folder in (stale, alive, others):
        folder.mkdir()
    kernel("tdx_guest")
    TsmAttester(tmp_path).close()
    assert set(tmp_path.iterdir()) == {alive, others}


def test_no_descriptor_is_left(kernel: Any, tmp_path: Path) -> None:
    booted = kernel("tdx_guest")
    before = len(list(Path("/proc/self/fd").iterdir()))
    attester = TsmAttester(tmp_path)
    attester.attest(REPORT_DATA, b"")
    attester.close()
    booted.provider = "arm_cca_guest"
    with pytest.raises(EvidenceError):
        TsmAttester(tmp_path)
    booted.join()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_machines_that_cannot(kernel: Any, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"no TDX or SEV-SNP guest with configfs-tsm: .*absent"):
        TsmAttester(tmp_path / "absent")
    kernel("arm_cca_guest")
    with pytest.raises(EvidenceError, match="provider is 'arm_cca_guest'; known are tdx_guest, sev_guest"):
        TsmAttester(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_kernel_that_makes_no_report(kernel: Any, tmp_path: Path) -> None:
    booted = kernel("tdx_guest")
    attester = TsmAttester(tmp_path)
    booted.fails = True
    with pytest.raises(EvidenceError, match="no report"):
        attester.attest(REPORT_DATA, b"")
    attester.close()


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_report_data_of_another_size_is_a_mistake(kernel: Any, tmp_path: Path, size: int) -> None:
    kernel("tdx_guest")
    attester = TsmAttester(tmp_path)
    with pytest.raises(ValueError, match="32 bytes"):
        attester.attest(bytes(size), b"")
    attester.close()


# --- Gramine ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gramine(tmp_path: Path) -> Path:
    (tmp_path / "attestation_type").write_text("dcap\n")
    (tmp_path / "user_report_data").write_bytes(bytes(64))
    (tmp_path / "quote").write_bytes(b"a quote")
    return tmp_path


def test_a_quote_of_gramines(gramine: Path) -> None:
    attester = GramineAttester(gramine)
    assert (attester.tee, attester.introduce()) == ("sgx", b"")
    assert read(attester.attest(REPORT_DATA, b"")) == ["quote", b"a quote", ""]
    assert (gramine / "user_report_data").read_bytes() == REPORT_DATA + bytes(32)
    with pytest.raises(ValueError, match="32 bytes"):
        attester.attest(bytes(64), b"")


def test_gramine_that_cannot(gramine: Path) -> None:
    attester = GramineAttester(gramine)
    (gramine / "quote").unlink()
    with pytest.raises(EvidenceError, match="Gramine makes no quote: No such file"):
        attester.attest(REPORT_DATA, b"")
    (gramine / "attestation_type").write_text("none")
    with pytest.raises(EvidenceError, match=r"must say sgx\.remote_attestation = 'dcap', not 'none'"):
        GramineAttester(gramine)
    with pytest.raises(EvidenceError, match="no enclave of Gramine's"):
        GramineAttester(gramine / "absent")
