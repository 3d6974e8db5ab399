"""Reads and writes ``.weights`` files, Darknet's own format (Darknet: src/parser.c).

A header (major, minor, revision: three int32; then ``seen``, the number of images trained on), and the
layers' float32 values one after the other, without names or sizes: only their total can tell that a file is
of another network.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import torch

from plinius.darknet.layers import BatchnormLayer, ConnectedLayer, ConvolutionalLayer
from plinius.darknet.network import Network
from plinius.errors import ConfigError

_VERSION = struct.Struct("<3i")
_SEEN_64 = struct.Struct("<Q")
_SEEN_32 = struct.Struct("<I")
_WRITTEN_VERSION = (0, 2, 0)
_FLOAT = np.dtype("<f4")

_FIRST_64_BIT_VERSION = 2
"""``seen`` has 64 bits from version 0.2, that is, from major * 10 + minor = 2."""

_TRANSPOSED_FROM = 1000
"""A major or minor version above this marks the weights of connected layers as ``[inputs, output]``."""


def read(network: Network, data: bytes, path: str) -> int:
    """Reads a ``.weights`` file into a network, which is not changed unless all of it fits.

    Args:
        network: The network that the file is of.
        data: The file's bytes.
        path: Its name, for messages; it is not opened.

    Returns:
        ``seen``, the number of images that the network was trained on.

    Raises:
        ConfigError: If the file is truncated, too long or of another network.
    """
    seen, transposed, offset = _read_header(data, path)
    expected_bytes = network.config.parameters * _FLOAT.itemsize
    found_bytes = len(data) - offset
    if found_bytes != expected_bytes:
        what = "is truncated, or of" if found_bytes < expected_bytes else "is of"
        raise ConfigError(
            f"the file {what} another network than {network.config.path}, which has {expected_bytes} bytes"
            f" of weights: after the header there are {found_bytes}",
            path=path,
        )
    values = torch.from_numpy(np.frombuffer(data, _FLOAT, offset=offset).astype(np.float32, copy=True))
    start = 0
    with torch.no_grad():
        for tensor, is_connected in _tensors(network):
            part = values[start : start + tensor.numel()]
            start += tensor.numel()
            if transposed and is_connected:
                tensor.copy_(part.reshape(tensor.shape[::-1]).T)
            else:
                tensor.copy_(part.reshape(tensor.shape))
    return seen


def write(network: Network, seen: int) -> bytes:
    """Writes a network as a ``.weights`` file of version 0.2.0, which every Darknet reads.

    Args:
        network: The network.
        seen: The number of images that it was trained on.

    Returns:
        The file's bytes.
    """
    parts = [_VERSION.pack(*_WRITTEN_VERSION), _SEEN_64.pack(seen)]
    parts += [tensor.detach().cpu().contiguous().numpy().astype(_FLOAT).tobytes() for tensor, _ in _tensors(network)]
    return b"".join(parts)


def _tensors(network: Network) -> Iterator[tuple[torch.Tensor, bool]]:
    """Yields each tensor in the file's order, and whether it is the weights of a connected layer."""
    for layer in network.layers:
        if isinstance(layer, ConvolutionalLayer | ConnectedLayer | BatchnormLayer):
            for tensor in layer.saved():
                yield tensor, isinstance(layer, ConnectedLayer) and tensor is layer.weights


def _read_header(data: bytes, path: str) -> tuple[int, bool, int]:
    """Gives ``seen``, whether connected weights are transposed, and where the values begin."""
    if len(data) < _VERSION.size:
        raise _short_header(data, _VERSION.size, path)
    major, minor, revision = _VERSION.unpack_from(data)
    if min(major, minor, revision) < 0:
        message = f"{major}.{minor}.{revision} is not a version: this is not a .weights file"
        raise ConfigError(message, path=path)
    transposed = major > _TRANSPOSED_FROM or minor > _TRANSPOSED_FROM
    is_64_bit = major * 10 + minor >= _FIRST_64_BIT_VERSION and major < _TRANSPOSED_FROM and minor < _TRANSPOSED_FROM
    layout = _SEEN_64 if is_64_bit else _SEEN_32
    offset = _VERSION.size + layout.size
    if len(data) < offset:
        raise _short_header(data, offset, path)
    (seen,) = layout.unpack_from(data, _VERSION.size)
    return seen, transposed, offset


def _short_header(data: bytes, needed_bytes: int, path: str) -> ConfigError:
    message = f"the file ends after {len(data)} bytes, within the header of {needed_bytes}: it is truncated"
    return ConfigError(message, path=path)
