"""Arrays of every element type and memory layout, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plinius.errors import ConfigError
from plinius.frameworks.torch import _DTYPES
from plinius.state import capture
from test_state_mirroring import mirror_in, mirror_out, refusal


class Holder:
    """An object whose state is one value, which it takes as it is given."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def random_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Returns a tensor of arbitrary bit patterns, among them NaNs with payloads."""
    tensor = torch.empty(shape, dtype=dtype)
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (tensor.nbytes,), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape) if tensor.numel() else tensor


def raw(tensor: torch.Tensor) -> bytes:
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return dense.view(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.dtype is two.dtype and one.shape == two.shape and one.stride() == two.stride() and raw(one) == raw(two)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("name", _DTYPES)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_tensors_of_every_dtype(name: str, shape: tuple[int, ...]) -> None:
    saved = random_bytes(shape, _DTYPES[name])
    live, holder = torch.empty_like(saved), Holder()
    address, mirrored = live.data_ptr(), mirror_out({"list": [saved], "holder": Holder(saved.clone())})
    mirror_in({"list": [live], "holder": holder}, mirrored)
    assert same(live, saved)
    assert live.data_ptr() == address
    assert same(holder.value, saved)
    assert mirrored.specs[0].dtype == name
    assert mirrored.specs[0].shape == shape


LAYOUTS = {
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels last, one channel": lambda: torch.randn(2, 1, 4, 5).to(memory_format=torch.channels_last),
    "channels last, 1 x 1": lambda: torch.randn(4, 3, 1, 1).to(memory_format=torch.channels_last),
    "channels last 3d": lambda: torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
    "transposed": lambda: torch.randn(3, 4).t(),
    "transposed bfloat16": lambda: torch.randn(3, 4).bfloat16().t(),
    "permuted": lambda: torch.randn(3, 4, 5).permute(1, 2, 0),
    "at an offset": lambda: torch.randn(10)[3:7],
    "odd stride of one row": lambda: torch.randn(12).as_strided((1, 4), (9, 1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_layouts_keep_their_memory_and_strides(layout: str) -> None:
    saved, live, holder = LAYOUTS[layout](), LAYOUTS[layout](), Holder()
    snapshot = capture({"list": [saved]})
    assert snapshot.buffers[0].memory.__array_interface__["data"][0] == saved.data_ptr()
    mirror_in({"list": [live], "holder": holder}, mirror_out({"list": [saved], "holder": Holder(saved.clone())}))
    assert same(live, saved)
    assert same(holder.value, saved.clone())


SPARSE_IN_MEMORY = {
    "slice": lambda: torch.randn(4, 6)[:, ::2],
    "expanded": lambda: torch.randn(1, 3).expand(4, 3),
    "expanded scalar": lambda: torch.randn(()).expand(2, 2),
    "conjugate": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "negated": lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("layout", SPARSE_IN_MEMORY)
def test_what_does_not_fill_its_memory_is_copied_and_copied_back(layout: str) -> None:
    saved, live, holder = SPARSE_IN_MEMORY[layout](), SPARSE_IN_MEMORY[layout](), Holder()
    mirror_in({"list": [live], "holder": holder}, mirror_out({"list": [saved], "holder": Holder(saved)}))
    assert raw(live) == raw(saved)
    assert live.stride() == saved.stride()
    assert raw(holder.value) == raw(saved)


def test_a_slice_goes_into_dense_memory_and_back() -> None:
    slices, dense = [torch.randn(4, 6)[:, ::2]], [torch.zeros(4, 3)]
    columns = [torch.zeros(3, 4).t()]
    mirror_in({"x": dense}, mirror_out({"x": slices}))
    mirror_in({"x": columns}, mirror_out({"x": slices}))
    assert torch.equal(dense[0], slices[0])
    assert torch.equal(columns[0], slices[0])
    dense[0].mul_(2)
    mirror_in({"x": slices}, mirror_out({"x": dense}))
    assert torch.equal(dense[0], slices[0])


def test_another_memory_format_is_refused() -> None:
    rows, channels_last = torch.zeros(2, 3, 4, 5), LAYOUTS["channels last"]()
    message = refusal({"x": [channels_last]}, {"x": [rows]})
    assert "x/0: memory with strides [60, 1, 15, 3] then, row-major now" in message


def test_gradient_flags_and_parameters_come_back() -> None:
    saved = [torch.zeros(2, requires_grad=True), torch.nn.Parameter(torch.ones(2)), torch.zeros(2)]
    saved.append(torch.nn.Parameter(torch.ones(3), requires_grad=False))
    holder, live = Holder(), [torch.ones(2, requires_grad=True)]
    mirror_in({"x": holder, "y": live}, mirror_out({"x": Holder(saved), "y": [saved[0]]}))
    assert [type(tensor) for tensor in holder.value] == [type(tensor) for tensor in saved]
    assert [tensor.requires_grad for tensor in holder.value] == [True, True, False, False]
    assert live[0].requires_grad
    assert live[0].tolist() == [0, 0]


def test_tensors_that_were_tied_in_an_object_are_tied_again() -> None:
    one = torch.ones(2)
    holder = Holder()
    mirror_in({"x": holder}, mirror_out({"x": Holder([one, one, one.clone()])}))
    assert holder.value[0] is holder.value[1]
    assert holder.value[2] is not holder.value[0]


def test_arrays_that_live_only_in_a_state_dict_are_not_taken_for_each_other() -> None:
    class Fleeting(Holder):
        def state_dict(self) -> dict[str, Any]:
            return {"slice": torch.full((64, 64), self.value)[:, ::2], "array": np.full((64, 64), self.value)[:, ::2]}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.value = (state["slice"].unique().item(), np.unique(state["array"]).item())

    saved, now = [Fleeting(float(i)) for i in range(8)], [Fleeting() for _ in range(8)]
    mirror_in({"x": now}, mirror_out({"x": saved}))
    assert [each.value for each in now] == [(float(i), float(i)) for i in range(8)]


class Sub(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8), "a tensor of dtype torch.qint8"),
        (torch.zeros(2, 2).to_sparse(), "a tensor of layout torch.sparse_coo"),
        (torch.eye(2).to_sparse_csr(), "a tensor of layout torch.sparse_csr"),
        (torch.zeros(2, device="meta"), "a tensor on the meta device"),
        (torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), "a nested tensor"),
        (torch.nn.UninitializedParameter(), "a lazy tensor"),
        (torch.nn.UninitializedBuffer(), "a lazy tensor"),
        (torch.zeros(2).as_subclass(Sub), "a Sub"),
        (torch.empty(2, dtype=torch.uint4), "a tensor of dtype torch.uint4"),
        (np.zeros(2, object), "an array of dtype object"),
        (np.zeros(2, [("a", "i4")]), "an array of dtype"),
        (np.ma.zeros(2), "a MaskedArray"),
        (np.zeros(2).view(np.matrix), "a matrix"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_arrays_without_bytes_of_their_own_are_refused(tensor: Any, what: str) -> None:
    for state, path in (({"x": [tensor]}, "x/0"), ({"x": Holder(tensor)}, "x/value")):
        with pytest.raises(ConfigError, match=f"{path}: {what}"):
            capture(state)


NUMPY_DTYPES = [
    "?",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    "g",
    "c8",
    "c16",
    "G",
    ">f4",
    ">i8",
    "M8[ns]",
    "m8[3D]",
    "U3",
    "S5",
]


@pytest.mark.parametrize("name", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_numpy_arrays_of_every_dtype(name: str, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(name)
    raw = np.random.default_rng(1).integers(0, 2 if dtype.kind in "?U" else 256, np.zeros(shape, dtype).nbytes)
    saved = np.frombuffer(raw.astype(np.uint8).tobytes(), dtype).reshape(shape)
    live, holder = np.zeros(shape, dtype), Holder()
    mirror_in({"list": [live], "holder": holder}, mirror_out({"list": [saved.copy()], "holder": Holder(saved)}))
    for array in (live, holder.value):
        assert array.dtype == saved.dtype
        assert array.shape == shape
        assert array.tobytes() == saved.tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        lambda: np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
        lambda: np.arange(24.0).reshape(4, 6)[:, ::2],
        lambda: np.arange(6.0)[::-1],
        lambda: np.lib.stride_tricks.as_strided(np.arange(3.0), (1, 3), (800, 8)),
    ],
)
def test_numpy_layouts(make: Any) -> None:
    saved, live, holder = make(), make(), Holder()
    live[:] = 0
    mirror_in({"list": [live], "holder": holder}, mirror_out({"list": [saved], "holder": Holder(saved)}))
    assert live.tobytes() == saved.tobytes()
    assert holder.value.tobytes() == saved.tobytes()
    if saved.flags.f_contiguous:
        assert holder.value.strides == saved.strides
