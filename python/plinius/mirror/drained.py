"""A drained generation: one file that holds all of it, as ciphertext. ``docs/design.md`` has every byte.

Whoever keeps such files is not trusted: what is read is parsed, held against the file's length and its hash, and only
then named in a pool. Changes that were made on purpose, hash and all, are found by the restore, which has the key.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final
from urllib.parse import quote

from plinius.errors import ConfigError, IntegrityError, PoolCorrupt, PoolVersion
from plinius.mirror.ciphertext import Ciphertext
from plinius.mirror.manifest import MAX_HEAD_BYTES, Head, encode, parse_head

FORMAT_VERSION: Final = 1
DIGEST_BYTES: Final = 32
_MAGIC: Final = b"PLINGEN\0"
_FIXED: Final = struct.Struct("<8sIIQQ")
# As many as an entry of a pool's catalog has room for.
_MAX_EXTENTS: Final = 1 << 22
# Beside version, step and job a file's name has room for this.
_MAX_QUOTED_NAME: Final = 130


@dataclass(frozen=True, order=True)
class Drained:
    """A generation at the far end, as the name of its file tells it; not verified."""

    version: int
    step: int
    job_id: bytes
    name: str

    @classmethod
    def of(cls, name: str, head: Head) -> Drained:
        """What the newest generation of a head will be called."""
        written = head.generations[0].written
        return cls(written.version, written.step, head.job_id, name)

    @property
    def file(self) -> str:
        """The name of its file. As text, the names of a job's files are in the order of their versions."""
        return f"{_quoted(self.name)}-{self.version:020d}-{self.step:020d}-{self.job_id.hex()}.plinius"


def files_of(name: str, files: list[str]) -> tuple[list[Drained], list[str]]:
    """The generations of a mirror among file names, oldest first; and what drains that were cut have left."""
    pattern = re.compile(re.escape(_quoted(name)) + r"-(\d{20})-(\d{20})-([0-9a-f]{32})\.plinius(\.[0-9a-f]{8}\.part)?")
    matches = [match for match in map(pattern.fullmatch, files) if match]
    found = [Drained(int(m[1]), int(m[2]), bytes.fromhex(m[3]), name) for m in matches if not m[4]]
    return sorted(found), [match[0] for match in matches if match[4]]


def preamble(ciphertext: Ciphertext) -> bytes:
    """All that is before the ciphertext of a generation."""
    head, lengths = encode(ciphertext.head), ciphertext.lengths
    before = _FIXED.size + len(head) + 8 * len(lengths)
    total = before + sum(lengths) + DIGEST_BYTES
    fixed = _FIXED.pack(_MAGIC, FORMAT_VERSION, len(head), len(lengths), total)
    return fixed + head + struct.pack(f"<{len(lengths)}Q", *lengths)


class DrainedReader:
    """Reads a drained generation once, front to back.

    Args:
        file: At its start.
        size: Its length, as its keeper tells it.
        expected: What its name says.

    Raises:
        IntegrityError: It is no drained generation, was changed or cut, or has another one's name.
        PoolVersion: It has a format that this release does not read.
    """

    def __init__(self, file: BinaryIO, size: int, expected: Drained) -> None:
        self._file, self._expected = file, expected
        self._hash = hashlib.sha256()
        magic, version, head_bytes, count, total = _FIXED.unpack(self.take(_FIXED.size))
        if magic != _MAGIC:
            raise self._refused("it is no drained generation")
        if version != FORMAT_VERSION:
            raise PoolVersion(
                f"{expected.file} has format {version}, this release reads {FORMAT_VERSION}; use a matching release"
            )
        before = _FIXED.size + head_bytes + 8 * count
        if head_bytes > MAX_HEAD_BYTES or count > _MAX_EXTENTS or total != size or before + DIGEST_BYTES > total:
            raise self._refused(f"its {size} bytes are not what it says of itself")
        self.head = self._parsed(self.take(head_bytes))
        self.lengths: list[int] = list(struct.unpack(f"<{count}Q", self.take(8 * count)))
        if not all(self.lengths) or before + sum(self.lengths) + DIGEST_BYTES != total:
            raise self._refused("the lengths of its extents are not that of the file")
        self._check_counted()

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            IntegrityError: There are not so many.
        """
        taken = self._read(count)
        self._hash.update(taken)
        return taken

    def finish(self) -> None:
        """Checks the end: only now is it known that nothing was damaged.

        Raises:
            IntegrityError: Something was.
        """
        digest = self._hash.digest()
        if self._read(DIGEST_BYTES) != digest or self._file.read(1):
            raise self._refused("its hash is another")

    def _read(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            part = self._file.read(count - len(taken))
            if not part:
                raise self._refused("it was cut")
            taken += part
        return bytes(taken)

    def _parsed(self, meta: bytes) -> Head:
        try:
            head = parse_head(meta)
            named = Drained.of(self._expected.name, head)
        except PoolCorrupt:
            raise self._refused("its head is damaged") from None
        except PoolVersion as error:
            raise PoolVersion(f"{self._expected.file}: {error}") from None
        if named != self._expected or len(head.generations) != 1:
            raise self._refused("it holds another generation than its name says")
        return head

    def _check_counted(self) -> None:
        """Its one generation names all its extents, and the manifest is among them."""
        [generation] = self.head.generations
        place = generation.manifest.extent
        named = place is not None and 0 <= place < len(generation.extents)
        if not named or set(generation.extents) != set(range(len(self.lengths))):
            raise self._refused("its head names other extents than it has")

    def _refused(self, why: str) -> IntegrityError:
        return IntegrityError(
            f"{self._expected.file} is damaged or was changed ({why}); remove it there, and the one before it is the "
            "newest"
        )


def _quoted(name: str) -> str:
    quoted = quote(name, safe="")
    if len(quoted) > _MAX_QUOTED_NAME:
        raise ConfigError(
            f"the mirror's name {name!r} is too long for the name of a file; drained mirrors need a shorter one"
        )
    return quoted
