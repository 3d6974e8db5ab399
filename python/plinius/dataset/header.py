"""The public header of a sealed data set: the first 256 bytes of its file."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from plinius.errors import ConfigError
from plinius.seal import CIPHERS

HEADER_BYTES: Final = 256
DTYPES: Final = frozenset(("uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"))
MAX_RECORDS: Final = 1 << 32  # one key, random nonces: NIST SP 800-38D, section 8.3
_MAGIC: Final = b"PLINDATA"
_FORMAT_VERSION: Final = 1
_FRAME_BYTES: Final = 12 + 16
_FIELDS: Final = struct.Struct("<8sII16s8sQQQ32s32s16s16s16sII4Q2Q")
_MAX_RECORD_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class Header:
    """The public header of a data set.

    Attributes:
        id: Random, names the data set.
        key_id: Public id of its key.
        cipher: Of its records.
        count: Records.
        image_shape: Of one image, as stored (channels, height, width).
        label_shape: Of one label; empty for a class number.
        image_dtype: NumPy's name.
        label_dtype: NumPy's name.
        salt: What the key of its records is derived with.
        commitment: To that key.
    """

    id: bytes
    key_id: bytes
    cipher: str
    count: int
    image_shape: tuple[int, ...]
    label_shape: tuple[int, ...]
    image_dtype: str
    label_dtype: str
    salt: bytes
    commitment: bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.image_shape) * np.dtype(self.image_dtype).itemsize

    @property
    def label_bytes(self) -> int:
        """Bytes of one label."""
        return math.prod(self.label_shape) * np.dtype(self.label_dtype).itemsize

    @property
    def sealed_bytes(self) -> int:
        """Bytes of one sealed record."""
        return _FRAME_BYTES + self.image_bytes + self.label_bytes

    def encode(self) -> bytes:
        """The 256 bytes at the start of the file."""
        fields = _FIELDS.pack(
            _MAGIC,
            _FORMAT_VERSION,
            HEADER_BYTES,
            self.id,
            self.key_id,
            self.count,
            self.image_bytes,
            self.label_bytes,
            self.salt,
            self.commitment,
            self.cipher.encode(),
            self.image_dtype.encode(),
            self.label_dtype.encode(),
            len(self.image_shape),
            len(self.label_shape),
            *(*self.image_shape, 0, 0, 0, 0)[:4],
            *(*self.label_shape, 0, 0)[:2],
        )
        return fields.ljust(HEADER_BYTES, b"\0")

    @classmethod
    def parse(cls, raw: bytes, name: str) -> Header:
        """Parses and checks the start of a file that anybody may have changed.

        Raises:
            ConfigError: It is not the header of a data set that this release reads.
        """
        if len(raw) < HEADER_BYTES or not raw.startswith(_MAGIC):
            raise ConfigError("this is not a sealed data set; make one with: plinius seal", path=name)
        fields = _FIELDS.unpack_from(raw)
        (_, version, size, data_id, key_id, count, image_bytes, label_bytes, salt, commitment) = fields[:10]
        if (version, size) != (_FORMAT_VERSION, HEADER_BYTES):
            raise ConfigError(f"the data set has format {version}, this release reads {_FORMAT_VERSION}", path=name)
        cipher, image_dtype, label_dtype = (f.rstrip(b"\0").decode("ascii", "replace") for f in fields[10:13])
        image_ndim, label_ndim = fields[13:15]
        shapes = fields[15:19][:image_ndim], fields[19:21][:label_ndim]
        header = cls(data_id, key_id, cipher, count, *shapes, image_dtype, label_dtype, salt, commitment)
        known = cipher in CIPHERS and image_dtype in DTYPES and label_dtype in DTYPES
        as_said = known and (header.image_bytes, header.label_bytes) == (image_bytes, label_bytes)
        if not as_said or header.encode() != raw[:HEADER_BYTES]:
            raise ConfigError("the header of the data set was changed or is damaged", path=name)
        if not 0 < count < MAX_RECORDS or not (image_bytes and label_bytes):
            raise ConfigError(
                f"a data set has 1 to 2^32 - 1 records, not {count}, and no empty image or label", path=name
            )
        if image_bytes + label_bytes > _MAX_RECORD_BYTES:
            raise ConfigError(
                f"a record has at most {_MAX_RECORD_BYTES} bytes, not {image_bytes + label_bytes}", path=name
            )
        return header


def public_headers(entries: Sequence[tuple[str, bytes, int]]) -> Iterator[tuple[Header, int]]:
    """The data sets among a pool's catalog entries (name, public bytes, occupied bytes); not verified."""
    for name, meta, occupied_bytes in entries:
        if name.startswith("data/"):
            yield Header.parse(meta, name), occupied_bytes
