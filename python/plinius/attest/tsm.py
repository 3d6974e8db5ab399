"""Attests through Linux's configfs-tsm, which has one form for TDX and SEV-SNP guests (kernel 6.7 and newer).

A report is made in a folder of its own: what is to be bound is written into ``inblob``, the report is read from
``outblob``. The kernel takes ``inblob`` when it is closed, and gives each open file its content once (configfs), so
every attempt has files of its own. All of them are opened at once, before a sandbox forbids it.
"""

from __future__ import annotations

import os
import secrets
import struct
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from plinius.attest.report import REPORT_DATA_BYTES
from plinius.errors import EvidenceError

ROOT: Final = Path("/sys/kernel/config/tsm/report")
ATTEMPTS: Final = 3
_NAME: Final = "plinius"
_MAX_BLOB_BYTES: Final = 1 << 15  # the kernel's TSM_REPORT_OUTBLOB_MAX
_INBLOB_BYTES: Final = 64
_PROVIDERS: Final = {"tdx_guest": "tdx", "sev_guest": "snp"}
# SEV-ES Guest-Hypervisor Communication Block (AMD 56421), SNP Extended Guest Request: entries of a GUID, offset and
# length, up to an entry of zeros. A GUID's bytes are in the order in which RFC 4122 writes them.
_ENTRY: Final = struct.Struct("<16sII")
_CERTIFICATES: Final = (
    uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd"),  # VCEK
    uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),  # ASK
    uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),  # ARK
)


class _Entry:
    """A folder in which one report can be made, with its files open."""

    def __init__(self, root: int) -> None:
        # The process's number: whoever comes later sees whether it is still in use.
        self.name = f"{_NAME}-{os.getpid()}-{secrets.token_hex(4)}"
        self._files: dict[str, int] = {}
        os.mkdir(self.name, 0o700, dir_fd=root)
        try:
            self._open(root, "inblob", os.O_WRONLY)
            for name in ("before", "after"):
                self._open(root, "generation", os.O_RDONLY, name)
            for name in ("outblob", "provider"):
                self._open(root, name, os.O_RDONLY)
            with suppress(FileNotFoundError):  # TDX has none
                self._open(root, "auxblob", os.O_RDONLY)
        except OSError:
            self.close()
            remove(root, self.name)
            raise

    def _open(self, root: int, file: str, how: int, name: str = "") -> None:
        self._files[name or file] = os.open(f"{self.name}/{file}", how | os.O_CLOEXEC, dir_fd=root)

    def report(self, inblob: bytes) -> tuple[str, bytes, bytes] | None:
        """Provider, report and auxiliary blob; None when somebody else wrote into the folder meanwhile."""
        before = self._generation("before")
        os.write(self._files["inblob"], inblob)
        os.close(self._files.pop("inblob"))
        outblob, auxblob = self._read("outblob"), self._read("auxblob") if "auxblob" in self._files else b""
        provider = self._read("provider").decode(errors="replace").strip()
        # One write, which is ours: its content is what the report binds.
        return (provider, outblob, auxblob) if self._generation("after") == before + 1 else None

    def _generation(self, name: str) -> int:
        text = self._read(name).strip()
        if not text.isdigit():
            raise EvidenceError("configfs-tsm counts no generations: is this the kernel's folder?")
        return int(text)

    def _read(self, name: str) -> bytes:
        content = bytearray()
        while part := os.read(self._files[name], _MAX_BLOB_BYTES):
            content += part
            if len(content) > _MAX_BLOB_BYTES:
                raise EvidenceError(f"configfs-tsm gives more than {_MAX_BLOB_BYTES} bytes in {name}")
        return bytes(content)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])


class TsmAttester:
    """Makes evidence in a TDX or SEV-SNP guest. Opens all that it needs at once.

    Args:
        root: configfs-tsm's folder.

    Attributes:
        tee: ``tdx`` or ``snp``.

    Raises:
        EvidenceError: This machine has no configfs-tsm, or of another kind, or it may not be used.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._entries: list[_Entry] = []
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise EvidenceError(f"no TDX or SEV-SNP guest with configfs-tsm: {root}: {error.strerror}") from None
        try:
            _remove_stale(self._root)
            self._entries = [_Entry(self._root) for _ in range(ATTEMPTS)]
            self.tee = _tee(self._root, self._entries[0].name)
        except OSError as error:
            self.close()
            raise EvidenceError(f"configfs-tsm in {root} cannot be used: {error.strerror}") from None
        except EvidenceError:
            self.close()
            raise

    def introduce(self) -> bytes:
        """Nothing: the verifier knows the vendor's roots."""
        return b""

    def attest(self, report_data: bytes, credential: bytes) -> bytes:  # noqa: ARG002 (every attester takes it)
        """Makes a report that binds `report_data`, in the form that the TEE's verifier reads.

        Every call uses up one of the prepared folders, or more where somebody else wrote into one.

        Args:
            report_data: 32 bytes; zeros fill the 64 that the report has.
            credential: Not used.

        Raises:
            EvidenceError: The kernel makes none, or none without another writer in between.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise ValueError(f"report data has {REPORT_DATA_BYTES} bytes")
        while self._entries:
            entry = self._entries.pop()
            try:
                made = entry.report(report_data.ljust(_INBLOB_BYTES, b"\0"))
            except OSError as error:
                raise EvidenceError(f"the kernel makes no report: {error.strerror}") from None
            finally:
                entry.close()
                remove(self._root, entry.name)
            if made:
                return self._evidence(*made)
        raise EvidenceError("no report: each was disturbed by another writer, or all prepared ones were used")

    def _evidence(self, provider: str, report: bytes, auxiliary: bytes) -> bytes:
        """The forms are `plinius.attest.dcap.QuoteEvidence` and `plinius.attest.snp.SnpEvidence`."""
        if _PROVIDERS.get(provider) != self.tee:
            raise EvidenceError(f"configfs-tsm's provider became {provider!r}")
        if self.tee == "tdx":
            return msgspec.msgpack.encode(("quote", report, ""))  # the broker has the collateral
        return msgspec.msgpack.encode(("snp", report, certificates(auxiliary), b""))

    def close(self) -> None:
        """Closes the files and removes the folders; what a sandbox keeps is removed by the next attester."""
        for entry in self._entries:
            entry.close()
            remove(self._root, entry.name)
        self._entries.clear()
        os.close(self._root)


def certificates(table: bytes) -> tuple[bytes, ...]:
    """VCEK, ASK and ARK of an SNP certificate table; nothing where one of them lacks, as when the host gives none.

    Raises:
        EvidenceError: The table is malformed.
    """
    found: dict[uuid.UUID, bytes] = {}
    for at in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
        guid, offset, length = _ENTRY.unpack_from(table, at)
        if not any(guid):
            break
        if offset + length > len(table):
            raise EvidenceError("the SNP certificate table points behind its end")
        found[uuid.UUID(bytes=guid)] = table[offset : offset + length]
    return tuple(found[kind] for kind in _CERTIFICATES) if found.keys() >= set(_CERTIFICATES) else ()


def remove(root: int, name: str) -> None:
    """Removes a folder of reports, if the sandbox lets this process."""
    with suppress(OSError):
        os.rmdir(name, dir_fd=root)


def _remove_stale(root: int) -> None:
    for name in os.listdir(root):
        kind, _, rest = name.partition("-")
        owner = rest.partition("-")[0]
        if kind == _NAME and owner.isdigit() and not Path("/proc", owner).exists():
            remove(root, name)


def _tee(root: int, name: str) -> str:
    descriptor = os.open(f"{name}/provider", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        provider = os.read(descriptor, 64).decode(errors="replace").strip()
    finally:
        os.close(descriptor)
    if provider not in _PROVIDERS:
        raise EvidenceError(f"configfs-tsm's provider is {provider!r}; known are {', '.join(_PROVIDERS)}")
    return _PROVIDERS[provider]
