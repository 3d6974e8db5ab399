"""IDX files, the format of MNIST and Fashion-MNIST, gzip or not (Y. LeCun, http://yann.lecun.com/exdb/mnist/)."""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plinius.errors import ConfigError

_DTYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP: Final = b"\x1f\x8b"
_MAX_BYTES: Final = 1 << 33


def read_idx(path: str) -> npt.NDArray[Any]:
    """Reads an IDX file.

    Returns:
        An array of the file's type and shape, in the machine's byte order.

    Raises:
        ConfigError: The file is missing, cut, or no IDX file.
    """
    try:
        content = _read(path)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read this IDX file: {reason}", path=path) from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:  # noqa: PLR2004 (the magic number)
        raise ConfigError("this is not an IDX file; give MNIST's images or labels, gzip or not", path=path)
    dtype, ndim = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ConfigError("this IDX file is cut", path=path)
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    needed = start + math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        raise ConfigError(f"this IDX file has {len(content)} bytes, its header says {needed}", path=path)
    try:
        values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:
        raise ConfigError(f"this IDX file has a shape that no array has: {error}", path=path) from None
    return values.astype(dtype.newbyteorder("="))


def _read(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 (descriptor)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError("this is not a regular file", path=path)
        zipped = file.read(2) == _GZIP
        file.seek(0)
        if not zipped:
            return file.read(_MAX_BYTES)
        with gzip.open(file) as unzipped:
            return unzipped.read(_MAX_BYTES)
