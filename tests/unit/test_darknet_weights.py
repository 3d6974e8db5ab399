"""``.weights`` files, byte for byte."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from plinius.darknet import Network, parse  # noqa: E402
from plinius.darknet.weights import read, write  # noqa: E402
from plinius.errors import ConfigError  # noqa: E402

CFGS = sorted((Path(__file__).parent / "cfg").glob("*.cfg"))
NET = b"[net]\nheight=2\nwidth=2\nchannels=1\n"


def network(body: bytes) -> Network:
    return Network(parse(NET + body, "a.cfg"), torch.Generator().manual_seed(1))


def numbered(made: Network) -> bytes:
    """A file of another network of the same shape, whose values are 1, 2, 3 ..."""
    count = made.config.parameters
    return struct.pack("<3iQ", 0, 2, 0, 640) + np.arange(1, count + 1, dtype="<f4").tobytes()


@pytest.mark.parametrize("path", CFGS, ids=lambda path: path.stem)
def test_round_trip_is_equal_byte_for_byte(path: Path) -> None:
    made = Network(parse(path.read_bytes(), path.name), torch.Generator().manual_seed(1))
    data = numbered(made)
    assert read(made, data, "a.weights") == 640
    assert write(made, 640) == data


def test_every_bit_pattern_survives() -> None:
    made = network(b"[connected]\noutput=1\n")
    values = np.array([0x7FC00001, 0x7F800000, 0x80000000, 0x00000001, 0xFFFFFFFF], dtype="<u4")
    data = struct.pack("<3iQ", 0, 2, 0, 2**40) + values.tobytes()
    assert read(made, data, "a.weights") == 2**40
    assert write(made, 2**40) == data


def test_order_of_a_convolutional_layer() -> None:
    made = network(b"[conv]\nfilters=2\nsize=2\nbatch_normalize=1\n")
    read(made, numbered(made), "a.weights")
    layer = made.layers[0]
    order = [layer.biases, layer.scales, layer.rolling_mean, layer.rolling_variance, layer.weights]
    assert [tensor.flatten().tolist() for tensor in order] == [
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
        list(range(9, 17)),
    ]


def test_order_of_a_connected_layer() -> None:
    made = network(b"[connected]\noutput=2\nbatch_normalize=1\n")
    read(made, numbered(made), "a.weights")
    layer = made.layers[0]
    order = [layer.biases, layer.weights, layer.scales, layer.rolling_mean, layer.rolling_variance]
    expected = [[1, 2], list(range(3, 11)), [11, 12], [13, 14], [15, 16]]
    assert [tensor.flatten().tolist() for tensor in order] == expected


def test_order_of_a_batchnorm_layer() -> None:
    made = network(b"[batchnorm]\n")
    read(made, numbered(made), "a.weights")
    layer = made.layers[0]
    assert [layer.scales.item(), layer.rolling_mean.item(), layer.rolling_variance.item()] == [1, 2, 3]
    assert layer.biases.item() == 0


@pytest.mark.parametrize(
    ("version", "seen_layout", "transposed"),
    [
        ((0, 1, 0), "<I", False),
        ((0, 2, 0), "<Q", False),
        ((1, 0, 0), "<Q", False),
        ((0, 2, 5), "<Q", False),
        ((1000, 0, 0), "<I", False),
        ((1001, 0, 0), "<I", True),
        ((0, 1001, 0), "<I", True),
    ],
)
def test_other_versions(version: tuple[int, int, int], seen_layout: str, transposed: bool) -> None:
    made = network(b"[connected]\noutput=2\n")
    values = np.arange(1, 11, dtype="<f4").tobytes()
    data = struct.pack("<3i", *version) + struct.pack(seen_layout, 77) + values
    assert read(made, data, "a.weights") == 77
    weights = torch.arange(3.0, 11.0)
    expected = weights.reshape(4, 2).T if transposed else weights.reshape(2, 4)
    assert torch.equal(made.layers[0].weights, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "is truncated, or of another network"),
        (lambda data: data[:-4], "has 40 bytes of weights: after the header there are 36"),
        (lambda data: data + b"\0" * 4, "is of another network than a.cfg"),
        (lambda data: data[:19], "ends after 19 bytes, within the header of 20"),
        (lambda data: data[:5], "ends after 5 bytes, within the header of 12"),
        (lambda data: b"", "ends after 0 bytes"),
        (lambda data: b"\xff" * len(data), "is not a version"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(change, words: str) -> None:  # type: ignore[no-untyped-def]
    made = network(b"[connected]\noutput=2\n")
    before = write(made, 0)
    with pytest.raises(ConfigError, match=r"b\.weights: ") as caught:
        read(made, change(numbered(made)), "b.weights")
    assert words in str(caught.value)
    assert write(made, 0) == before


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    made = network(b"[connected]\noutput=2\n")
    with contextlib.suppress(ConfigError):
        read(made, data, "b.weights")
