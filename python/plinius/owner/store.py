"""What the broker remembers, so that a kill loses none of it: sessions, freshness heads, and the audit log.

One SQLite database, every change one transaction that is on the disk before anything is answered.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from plinius.attest.report import joined
from plinius.errors import ConfigError, EvidenceError
from plinius.mirror.manifest import AnchoredHead

CHALLENGED, RELEASED, CONFIRMED, ENDED = "challenged", "released", "confirmed", "ended"

_FIRST: Final = bytes(32)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    name BLOB PRIMARY KEY, job_id BLOB NOT NULL, state TEXT NOT NULL, issued_ns INTEGER NOT NULL, facts BLOB NOT NULL,
    key BLOB NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL, reply BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS heads (
    job_id BLOB PRIMARY KEY, version INTEGER NOT NULL, digest BLOB NOT NULL, epoch INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, job TEXT NOT NULL, event TEXT NOT NULL, detail TEXT NOT NULL,
    digest BLOB NOT NULL
) STRICT;
"""


class Asked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a session began with.

    Attributes:
        tee: What the enclave said it would prove itself with.
        introduction: Its own.
        secret: What the credential of the challenge hides, where it has one.
        nonce: Of the challenge.
        kem: Of the challenge.
    """

    tee: str
    introduction: bytes
    secret: bytes
    nonce: bytes
    kem: str

    def __repr__(self) -> str:
        return f"Asked(tee={self.tee!r}, kem={self.kem!r})"


@dataclass(frozen=True)
class SessionRecord:
    """A session: how far it has come, and what it takes to go on."""

    name: bytes
    job_id: bytes
    state: str
    issued_ns: int
    asked: Asked
    key: bytes = field(default=b"", repr=False)
    sent: int = 0
    received: int = 0
    reply: bytes = b""


@dataclass(frozen=True)
class AuditEntry:
    """A decision. Its digest covers its fields and the digest before it, so nothing can be changed or left out."""

    number: int
    at_ns: int
    job: str
    event: str
    detail: str
    digest: bytes

    def follows(self, previous: bytes) -> bool:
        """Whether this is the entry after one with that digest."""
        return self.digest == _chained(previous, self.number, self.at_ns, (self.job, self.event, self.detail))

    def facts(self) -> dict[str, int | str]:
        """The fields, for machines."""
        return {**asdict(self), "digest": self.digest.hex()}

    def line(self) -> str:
        """The same for people."""
        at = datetime.fromtimestamp(self.at_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        return f"{self.number} {at} {self.job}: {self.event}: {self.detail} [{self.digest.hex()}]"


class Store:
    """The broker's database.

    Args:
        path: The file; made, readable by its owner only, if there is none.

    Raises:
        ConfigError: It cannot be used.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        try:
            self._database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # WAL alone would lose the last ones in a power failure
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot use the broker's database: {error}", path=path) from None

    def close(self) -> None:
        """Closes it."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block are durable when it ends well, and none is made if it does not."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk may have ended it already
                    self._database.execute("ROLLBACK")
                raise

    def put(self, it: SessionRecord) -> None:
        """Remembers how a session stands."""
        asked = msgspec.msgpack.encode(it.asked)
        fields = (it.name, it.job_id, it.state, it.issued_ns, asked, it.key, it.sent, it.received, it.reply)
        self._database.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", fields)

    def session(self, name: bytes) -> SessionRecord | None:
        """The session of that name."""
        with self._lock:  # not what another thread's transaction may yet take back
            row = self._database.execute("SELECT * FROM sessions WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        name, job_id, state, issued_ns, asked, key, sent, received, reply = row
        facts = msgspec.msgpack.decode(asked, type=Asked)
        return SessionRecord(name, job_id, state, issued_ns, facts, key, sent, received, reply)

    def end_others(self, it: SessionRecord) -> None:
        """Ends every other session of a job: their enclaves are not heard any more."""
        query = "UPDATE sessions SET state = ?, key = x'', reply = x'' WHERE job_id = ? AND name != ? AND state != ?"
        self._database.execute(query, (ENDED, it.job_id, it.name, ENDED))

    def forget_challenges(self, job_id: bytes, before_ns: int) -> None:
        """Forgets a job's challenges that led to nothing: what is not known here is not accepted either."""
        query = (
            "DELETE FROM sessions WHERE job_id = ? AND issued_ns < ? AND (state = ? OR (state = ? AND received = 0))"
        )
        self._database.execute(query, (job_id, before_ns, CHALLENGED, ENDED))

    def head(self, job_id: bytes) -> AnchoredHead | None:
        """The newest generation of a job, as far as it was anchored."""
        row = self._database.execute("SELECT version, digest, epoch FROM heads WHERE job_id = ?", (job_id,)).fetchone()
        return AnchoredHead(*row) if row else None

    def put_head(self, job_id: bytes, head: AnchoredHead) -> None:
        """Remembers a job's head."""
        fields = (job_id, head.version, head.digest, head.epoch)
        self._database.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)", fields)

    def note(self, job: str, event: str, detail: str) -> None:
        """Adds a decision to the audit log."""
        row = self._database.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = (row[0] + 1, row[1]) if row else (1, _FIRST)
        at_ns = time.time_ns()
        digest = _chained(previous, number, at_ns, (job, event, detail))
        fields = (number, at_ns, job, event, detail, digest)
        self._database.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", fields)

    def audit(self) -> Iterator[AuditEntry]:
        """All decisions, from the first on.

        Raises:
            EvidenceError: The log was changed: an entry does not follow the one before it.
            ConfigError: The database is damaged.
        """
        previous = _FIRST
        for entry in self._entries():
            if not entry.follows(previous):
                raise EvidenceError(
                    f"the audit log was changed at entry {entry.number}: it does not follow the one before"
                )
            previous = entry.digest
            yield entry

    def _entries(self) -> Iterator[AuditEntry]:
        try:
            for row in self._database.execute("SELECT * FROM audit ORDER BY number"):
                yield AuditEntry(*row)
        except sqlite3.Error as error:
            raise ConfigError(f"the broker's database cannot be read: {error}") from None


def _chained(previous: bytes, number: int, at_ns: int, texts: tuple[str, ...]) -> bytes:
    # Signed, as the database has them: also a changed number has bytes to compare.
    numbers = (number.to_bytes(8, "little", signed=True), at_ns.to_bytes(8, "little", signed=True))
    content = joined("plinius audit 1", previous, *numbers, *(text.encode() for text in texts))
    return hashlib.sha256(content).digest()
