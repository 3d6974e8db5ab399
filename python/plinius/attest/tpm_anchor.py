"""A freshness anchor in a TPM: an NV index that remembers a job's newest version where its pool does not.

The index's authorization value comes from the run key: nobody without that key can read it, write it or, since every
command and answer carries an HMAC with it, answer in the TPM's place. Whoever owns the machine can delete it; then the
job is refused, and a new index is made only by `create`. Every program that has the run key writes it: what keeps two
copies of a job apart is the compare-and-swap, under a lock of this machine's operating system, which is trusted.

NV memory wears out: a TPM may refuse writes that come too often (TCG "TPM 2.0 Library" Part 2, TPM_RC_NV_RATE), and
data sheets commonly name 100 000 writes in its life. That is ten weeks of training at one write a minute, two years at
one in ten minutes. So writes keep a distance, of a minute where nothing else is said.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from plinius.attest.tpm import Tpm, failing, tss
from plinius.errors import AttestationError, ConfigError, RollbackError
from plinius.mirror.manifest import AnchoredHead

# TCG "Registry of Reserved TPM 2.0 Handles and Localities": NV indexes that the owner of a machine hands out.
FIRST_INDEX, LAST_INDEX = 0x01800000, 0x01BFFFFF
AUTH_BYTES: Final = 32
LEAST_GAP_S: Final = 60.0
LOCK_FOLDER: Final = Path("/run/lock")

# Version, epoch, digest (zeros: nothing was anchored yet), and what tells this index from all others.
_RECORD: Final = struct.Struct(">QQ32s32s")
_INSTANCE_BYTES: Final = 32
_LAST_WRITE: Final = struct.Struct("<d")  # Unix time in seconds
# No NV_OWNERREAD, so that there is no way around the authorization value; guessing at it needs no lockout.
_ATTRIBUTES: Final = (
    tss.TPMA_NV.AUTHREAD
    | tss.TPMA_NV.AUTHWRITE
    | tss.TPMA_NV.NO_DA
    | (tss.TPM2_NT.ORDINARY << tss.TPMA_NV.TPM2_NT_SHIFT)
)


def create(tpm: Tpm, index: int, auth: bytes, owner_auth: bytes = b"") -> None:
    """Makes the index of a job that was not anchored yet, or ends a making that was cut off. Nothing else makes one.

    Args:
        tpm: An open connection.
        index: Its number, 0x01800000 to 0x01BFFFFF.
        auth: 32 bytes, derived from the run key.
        owner_auth: The password of the TPM's owner hierarchy; most have none.

    Raises:
        ConfigError: There is one already, or the number cannot be one.
        AttestationError: The TPM cannot make it, or another program has begun to make one with this number.
    """
    _check_index(index)
    _check_auth(auth)
    area = tss.TPMS_NV_PUBLIC(nvIndex=index, nameAlg=tss.TPM2_ALG.SHA256, attributes=_ATTRIBUTES, dataSize=_RECORD.size)
    try:
        with failing(AttestationError, "make an NV index"), tpm.storage_root() as root:
            tpm.esys.tr_set_auth(tss.ESYS_TR.OWNER, owner_auth)
            with tpm.session(tss.TPM2_SE.HMAC, salted_by=root, attributes=tss.TPMA_SESSION.DECRYPT) as hidden:
                try:
                    handle = tpm.esys.nv_define_space(auth, tss.TPM2B_NV_PUBLIC(area), session2=hidden)
                except tss.TSS2_Exception as error:
                    if error.error != tss.TPM2_RC.NV_DEFINED:
                        raise
                    handle = tpm.esys.tr_from_tpmpublic(index)
                    if not tpm.esys.nv_read_public(handle)[0].nvPublic.attributes & tss.TPMA_NV.WRITTEN:
                        return _begin(tpm, handle, auth)
                    raise ConfigError(
                        f"the TPM has an NV index {index:#x} already: choose another, or delete it (tpm2_nvundefine) "
                        "if no job needs it"
                    ) from None
        _begin(tpm, handle, auth)
    finally:
        tpm.esys.tr_set_auth(tss.ESYS_TR.OWNER, b"")


def _begin(tpm: Tpm, handle: tss.ESYS_TR, auth: bytes) -> None:
    """The first write: nothing is anchored, and this index is none that was there before."""
    with failing(AttestationError, "write its new NV index"), tpm.session(tss.TPM2_SE.HMAC) as session:
        tpm.esys.tr_set_auth(handle, auth)
        record = _RECORD.pack(0, 0, b"", os.urandom(_INSTANCE_BYTES))
        tpm.esys.nv_write(handle, record, session1=session)


class Place:
    """Where a job's anchor is: an NV index, and this machine's lock for it, which is opened before a sandbox.

    Args:
        index: The number that `create` gets.
        lock_folder: Where the lock file is; the same for all who use the index.

    Raises:
        ConfigError: The number cannot be one, or the lock file cannot be opened.
    """

    def __init__(self, index: int, lock_folder: Path = LOCK_FOLDER) -> None:
        _check_index(index)
        self.index = index
        path = lock_folder / f"plinius-tpm-{index:08x}.lock"
        try:
            self.lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot open the lock of the TPM's anchor: {error.strerror}", path=str(path)) from None

    @classmethod
    def of_job(cls, job_id: bytes) -> Place:
        """The place of a job. That two jobs on one machine share one is unlikely, and refused."""
        chosen = int.from_bytes(hashlib.sha256(b"plinius anchor" + job_id).digest()[:8], "big")
        return cls(FIRST_INDEX + chosen % (LAST_INDEX - FIRST_INDEX + 1))

    def close(self) -> None:
        """Closes the lock file."""
        os.close(self.lock)


class TpmAnchor:
    """The anchor of one job.

    Args:
        tpm: An open connection.
        place: Where it is.
        auth: 32 bytes, derived from the run key, as `create` got.
        every: Anchors one version in so many.
        least_gap_s: Seconds between two writes; an earlier one waits.
        waiting: Told before it waits how many seconds it will.
    """

    def __init__(
        self,
        tpm: Tpm,
        place: Place,
        auth: bytes,
        *,
        every: int = 1,
        least_gap_s: float = LEAST_GAP_S,
        waiting: Callable[[float], None] = lambda _: None,
    ) -> None:
        _check_auth(auth)
        self.every = every
        self._tpm, self._index, self._lock, self._auth = tpm, place.index, place.lock, auth
        self._least_gap_s, self._waiting = least_gap_s, waiting

    def head(self) -> AnchoredHead | None:
        """What was anchored last; None when nothing was since `create`.

        Raises:
            RollbackError: The index is gone, or is not the one that belongs to the run key.
            AttestationError: The TPM fails.
        """
        return self._read()[0]

    def instance(self) -> bytes:
        """What was drawn when the index was made, 32 bytes: no other one has it, of this TPM or of any.

        Raises:
            RollbackError: The index is gone, or is not the one that belongs to the run key.
            AttestationError: The TPM fails.
        """
        return self._read()[1]

    def _read(self) -> tuple[AnchoredHead | None, bytes]:
        with self._opened() as (handle, session):
            record = bytes(self._tpm.esys.nv_read(handle, _RECORD.size, session1=session))
        version, epoch, digest, instance = _RECORD.unpack(record)
        return AnchoredHead(version, digest, epoch) if version else None, instance

    def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
        """Moves the anchor, if it still is where it is expected to be; repeating a move that was made does nothing.

        Args:
            expected: What `head` has to be.
            new: What it becomes.
            going_back: Whether its version or epoch may be lower, or its version be another generation's.

        Raises:
            RollbackError: It is elsewhere: another copy of the job moved it, or the pool is older than it.
            AttestationError: The TPM fails.
        """
        with self._turn():
            head, instance = self._read()
            if head == new:
                return
            if head != expected:
                raise RollbackError(
                    f"the TPM's anchor is at {_named(head)}, not at {_named(expected)}: another copy of the job went "
                    "on, or the pool is older"
                )
            if head is not None and not going_back and not _is_forward(head, new):
                raise RollbackError(f"the TPM's anchor is at {_named(head)} and does not go back to {_named(new)}")
            self._keep_distance()
            with self._opened() as (handle, session):
                record = _RECORD.pack(new.version, new.epoch, new.digest, instance)
                self._tpm.esys.nv_write(handle, record, session1=session)
            os.pwrite(self._lock, _LAST_WRITE.pack(time.time()), 0)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _keep_distance(self) -> None:
        """Waits; no longer than the distance, whatever the file or the clock say."""
        written = os.pread(self._lock, _LAST_WRITE.size, 0)
        last = _LAST_WRITE.unpack(written)[0] if len(written) == _LAST_WRITE.size else 0.0
        passed = time.time() - last
        if 0 <= passed < self._least_gap_s:
            self._waiting(self._least_gap_s - passed)
            time.sleep(self._least_gap_s - passed)

    @contextmanager
    def _opened(self) -> Iterator[tuple[tss.ESYS_TR, tss.ESYS_TR]]:
        """The index and a session that uses it, with what goes wrong said in the terms of an anchor."""
        esys = self._tpm.esys
        with failing(AttestationError, f"use its NV index {self._index:#x}"):
            try:
                handle = esys.tr_from_tpmpublic(self._index)
                try:
                    esys.tr_set_auth(handle, self._auth)
                    with self._tpm.session(tss.TPM2_SE.HMAC) as session:
                        yield handle, session
                finally:
                    esys.tr_close(handle)
            except tss.TSS2_Exception as error:
                reason = _REASONS.get(error.error)
                if reason is None:
                    raise
                raise RollbackError(
                    f"the TPM's NV index {self._index:#x} {reason}; so nothing tells whether the pool is the newest"
                ) from None


_REASONS: Final = {
    tss.TPM2_RC.HANDLE: "is gone: it was deleted, the TPM was cleared, or this is another machine",
    tss.TPM2_RC.BAD_AUTH: "belongs to another run key: it was made anew, or for another job",
    tss.TPM2_RC.NV_UNINITIALIZED: "was never finished: create it again",
}


def _check_index(index: int) -> None:
    if not FIRST_INDEX <= index <= LAST_INDEX:
        raise ConfigError(f"the NV index of an anchor is in {FIRST_INDEX:#x} to {LAST_INDEX:#x}, not {index:#x}")


def _check_auth(auth: bytes) -> None:
    if len(auth) != AUTH_BYTES:
        raise ValueError(f"an anchor's authorization value has {AUTH_BYTES} bytes")


def _is_forward(head: AnchoredHead, new: AnchoredHead) -> bool:
    same = (head.version, head.digest) == (new.version, new.digest)
    return (same or new.version > head.version) and new.epoch >= head.epoch


def _named(head: AnchoredHead | None) -> str:
    return "nothing" if head is None else f"version {head.version} (epoch {head.epoch})"
