"""What Plinius knows of torch: tensors as memory, modules, optimizers, random generators."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from plinius.errors import IntegrityError
from plinius.frameworks.torch_devices import DeviceCopies, fetched
from plinius.state.arrays import is_dense, row_major
from plinius.state.generators import Source
from plinius.state.snapshot import Layout, Memory, View
from plinius.state.tree import Node, named, refuse

_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
        "float4_e2m1fn_x2",
    )
    if hasattr(torch, name)  # the narrow floats came one by one
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_COMPLEX = {dtype for dtype in _NAMES if dtype.is_complex}
_IN_NUMPY = {dtype for name, dtype in _DTYPES.items() if hasattr(np, name)}
_REQUIRES_GRAD, _PARAMETER = 1, 2
_NOTHING: Memory = np.empty(0, np.uint8)


class Tensors:
    """torch's tensors: strided ones of plain element types, on any device."""

    tag = "tensor"

    def identity(self, array: torch.Tensor, path: str) -> Hashable:
        """Returns the address, device, dtype, shape and strides; ``None`` for an empty tensor.

        A view that conjugates or negates what it shows is told from one that does not.

        Raises:
            ConfigError: The tensor has no bytes of its own that could be mirrored.
        """
        if (
            type(array) not in _PLAIN
            or array.layout is not torch.strided
            or array.is_nested
            or array.is_meta
            or array.dtype not in _NAMES
        ):
            refuse(path, _what(array))
        address = array.data_ptr()
        if not address:
            return None
        stored = (address, array.get_device(), array.dtype, array.shape, array.stride())
        is_conj, is_neg = _is_conj(array), array.is_neg()
        return (*stored, is_conj, is_neg) if is_conj or is_neg else stored

    def evidence(self, arrays: list[Any]) -> object:
        """Returns all that the identity and the traits of a tensor depend on besides its type."""
        try:
            return [list(map(look, arrays)) for look in _LOOKS]
        except RuntimeError:  # a sparse tensor has no address, a nested one no shape
            return None

    def view(self, array: torch.Tensor) -> View:
        """Returns the tensor's bytes: its own in host memory where they are dense."""
        tensor = array.detach() if array.requires_grad else array
        if not tensor.is_cpu:
            tensor = self._on_host(tensor)
        shape, strides = tensor.shape, tensor.stride()
        layout: Layout = None
        is_as_stored = not (_is_conj(tensor) or tensor.is_neg())
        if is_as_stored and strides == row_major(shape):  # most
            pass
        elif not is_as_stored or not (tensor.is_contiguous() or is_dense(shape, strides)):
            tensor = tensor.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
            layout = "copied"
        elif tensor.numel():
            layout = strides
        memory = _memory(tensor, in_order=not isinstance(layout, tuple))
        return View(memory, _NAMES[tensor.dtype], shape, layout, layout != "copied" and array.is_cpu)

    def _on_host(self, tensor: torch.Tensor) -> torch.Tensor:
        is_dense_there = tensor.is_contiguous() or is_dense(tensor.shape, tensor.stride())
        if tensor.is_cuda and is_dense_there and not (tensor.is_conj() or tensor.is_neg()):
            host = fetched(tensor, self.identity(tensor, ""))
            if host is not None:
                return host
        return tensor.cpu()

    def traits(self, array: torch.Tensor) -> list[Node]:
        """Returns ``[device, flags]``, or nothing for a tensor in host memory that needs no gradient."""
        is_parameter = type(array) is torch.nn.Parameter
        if not (is_parameter or array.requires_grad) and array.is_cpu:
            return []
        return [str(array.device), _REQUIRES_GRAD * array.requires_grad + _PARAMETER * is_parameter]

    def empty(self, dtype: str, shape: tuple[int, ...], layout: Layout) -> torch.Tensor:
        """Returns a new tensor in host memory, dense in the given layout.

        Raises:
            IntegrityError: ``dtype`` is none that `view` writes.
        """
        if dtype not in _DTYPES:
            raise IntegrityError(f"the mirrored structure is malformed: a tensor of dtype {dtype!r}")
        strides = layout if isinstance(layout, tuple) else row_major(shape)
        # Named, since a program may have made another device the default.
        return torch.empty_strided(shape, strides, dtype=_DTYPES[dtype], device="cpu")

    def with_traits(self, array: torch.Tensor, traits: list[Node]) -> torch.Tensor:
        """Returns the tensor with the saved one's gradient flag, on its device if that is here."""
        if not traits:
            return array
        try:
            device, flags = torch.device(str(traits[0])), int(str(traits[1]))
        except (IndexError, RuntimeError, ValueError) as error:
            raise IntegrityError(f"the mirrored structure is malformed: {error}") from None
        tensor = array.to(device) if _is_here(device) else array
        if flags & _PARAMETER:
            return torch.nn.Parameter(tensor, requires_grad=bool(flags & _REQUIRES_GRAD))
        return tensor.requires_grad_(bool(flags & _REQUIRES_GRAD))

    def assign(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copies the elements into a tensor on any device, in any layout."""
        target = target.detach()
        for dim, stride in enumerate(target.stride()):
            if stride == 0 and target.shape[dim] > 1:  # expanded: one place stands for all
                target, source = target.narrow(dim, 0, 1), source.narrow(dim, 0, 1)
        target.copy_(source)


def _is_conj(tensor: torch.Tensor) -> bool:
    return tensor.dtype in _COMPLEX and tensor.is_conj()  # asking costs more than the dtype


_LOOKS: tuple[Callable[[torch.Tensor], object], ...] = (
    attrgetter("device", "layout", "is_nested", "dtype", "shape", "requires_grad"),
    torch.Tensor.data_ptr,
    torch.Tensor.stride,
    torch.Tensor.is_neg,
    _is_conj,
)
TENSORS = Tensors()
OPTIMIZER = torch.optim.Optimizer
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _memory(tensor: torch.Tensor, *, in_order: bool) -> Memory:
    if tensor.numel() == 0:
        return _NOTHING
    if in_order and tensor.dtype in _IN_NUMPY:
        return np.frombuffer(tensor.numpy(), np.uint8)  # torch lets nobody resize what NumPy sees
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy()


def _what(tensor: torch.Tensor) -> str:
    if is_lazy(tensor):
        return "a lazy tensor without a shape"
    if type(tensor) not in _PLAIN:
        return named(tensor)
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_meta:
        return "a tensor on the meta device, which has no values,"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {tensor.layout}"
    return f"a tensor of dtype {tensor.dtype}"


def _is_here(device: torch.device) -> bool:
    return device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())


def is_tensor(value: object) -> bool:
    """Tells whether a value is a tensor."""
    return isinstance(value, torch.Tensor)


def is_module(value: object) -> bool:
    """Tells whether a value is a module."""
    return isinstance(value, torch.nn.Module)


def live_storages(module: torch.nn.Module) -> set[int]:
    """Returns the addresses of the storages that a module computes with.

    An entry of its ``state_dict()`` that lies elsewhere is a copy that a hook made.
    """
    tensors = [*module.parameters(), *module.buffers()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if type(tensor) in _PLAIN}


def lies_in(tensor: torch.Tensor, storages: set[int]) -> bool:
    """Tells whether writing a tensor's memory writes one of the storages."""
    return tensor.numel() == 0 or tensor.untyped_storage().data_ptr() in storages


def is_optimizer(value: object) -> bool:
    """Tells whether a value is an optimizer."""
    return isinstance(value, torch.optim.Optimizer)


def tensors_of_optimizer(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Returns what an optimizer's step writes: its parameters and the tensors of its state."""
    found = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    states: list[Any] = list(optimizer.state.values())
    while states:
        value = states.pop()
        if isinstance(value, dict):
            states.extend(value.values())
        elif isinstance(value, (list, tuple)):
            states.extend(value)
        elif type(value) in _PLAIN:
            found.append(value)
    return [tensor for tensor in found if type(tensor) in _PLAIN]


def tensors_of_module(module: torch.nn.Module) -> list[torch.Tensor]:
    """Returns a module's parameters and buffers."""
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if type(tensor) in _PLAIN]


def before_step(optimizer: torch.optim.Optimizer, wait: Callable[[], None]) -> Callable[[], None] | None:
    """Lets something be waited for before each step of an optimizer.

    Returns:
        What undoes that; ``None`` where the class has a ``step`` of its own that runs no hooks.
    """
    if not getattr(type(optimizer).step, "hooked", False):
        return None
    return optimizer.register_step_pre_hook(lambda *_: wait()).remove


def parameters(optimizer: torch.optim.Optimizer, number_of: Callable[[torch.Tensor], int | None]) -> list[Node]:
    """Returns of every parameter, by group, its shape, whether it gets a gradient, and which buffer it is.

    Args:
        optimizer: Whose.
        number_of: Says which buffer a tensor is.
    """
    return [
        [[list(it.shape), it.requires_grad, number_of(it)] for it in group["params"]]
        for group in optimizer.param_groups
    ]


def train_parameters(optimizer: torch.optim.Optimizer, flags: Sequence[bool]) -> None:
    """Lets each parameter get a gradient, or none, as it did when it was saved."""
    found = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    for tensor, is_trained in zip(found, flags, strict=True):
        if tensor.requires_grad != is_trained:
            tensor.requires_grad_(is_trained)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads a state dict, and undoes what torch does to it: its state must not take the parameters' dtype.

    Args:
        optimizer: Hooks on its ``load_state_dict`` see what they always see.
        state: What ``state_dict()`` returned, with tensors that nobody else holds.
    """
    loaded: dict[str, Any] = {}

    def remember(_: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        loaded.update(state)

    def correct(optimizer: torch.optim.Optimizer) -> None:
        ids = [i for group in loaded["param_groups"] for i in group["params"]]
        parameters = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        for i, parameter in zip(ids, parameters, strict=True):
            if i in loaded["state"]:
                optimizer.state[parameter] = _uncast(loaded["state"][i], optimizer.state[parameter])

    hooks = (
        optimizer.register_load_state_dict_pre_hook(remember),
        optimizer.register_load_state_dict_post_hook(correct, prepend=True),
    )
    try:
        optimizer.load_state_dict(state)
    finally:
        for hook in hooks:
            hook.remove()


def _uncast(saved: Any, cast: Any) -> Any:
    """Returns what was saved, with tensors on the devices that torch chose for them."""
    if isinstance(saved, torch.Tensor) and isinstance(cast, torch.Tensor):
        return saved.to(cast.device)
    if isinstance(saved, dict) and isinstance(cast, dict):
        for key in saved:
            saved[key] = _uncast(saved[key], cast.get(key))
    if isinstance(saved, list) and isinstance(cast, list):
        saved[:] = map(_uncast, saved, cast)
    return saved


def encode_value(value: object) -> list[Node] | None:
    """Returns the node of a dtype, a device or a size; ``None`` for anything else."""
    if isinstance(value, torch.dtype):
        return ["torch", "dtype", str(value).removeprefix("torch.")]
    if isinstance(value, torch.device):
        return ["torch", "device", str(value)]
    return ["torch", "Size", *value] if isinstance(value, torch.Size) else None


def decode_value(kind: Node, *rest: Any) -> object:
    """Returns the value of a node that `encode_value` returned.

    Raises:
        IntegrityError: It returned no such node.
    """
    try:
        if kind == "dtype" and isinstance(found := getattr(torch, *rest), torch.dtype):
            return found
        if kind == "device":
            return torch.device(*rest)
        if kind == "Size":
            return torch.Size(rest)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise IntegrityError(f"the mirrored structure is malformed: {error}") from None
    raise IntegrityError(f"the mirrored structure is malformed: a torch {kind!r} of {rest}")


def refusal(value: object) -> str | None:
    """Returns what to do about a value that cannot be mirrored, where there is better advice than usual."""
    if isinstance(value, torch.utils.data.DataLoader):
        return "a DataLoader forgets its position; use torchdata's StatefulDataLoader in its place"
    return None


def generator_source(value: object) -> Source | None:
    """Returns a torch generator's state as a source."""
    if not isinstance(value, torch.Generator):
        return None
    return _source(f"torch.Generator on {value.device}", value.get_state, value.set_state)


def global_sources(*, idle_devices: bool = False) -> dict[str, Source]:
    """Returns torch's own generators: the CPU's and those of CUDA's devices.

    Args:
        idle_devices: Whether to name CUDA's generators before CUDA is in use; to read one would start it.
    """
    sources = {"torch": _source("torch on the CPU", torch.get_rng_state, torch.set_rng_state)}
    if _cuda_in_use() or (idle_devices and torch.cuda.is_available()):
        for i in range(torch.cuda.device_count()):
            get, put = partial(torch.cuda.get_rng_state, i), partial(torch.cuda.set_rng_state, device=i)
            sources[f"cuda:{i}"] = _source("torch on CUDA", get, put)
    return sources


def _source(kind: str, get: Callable[[], torch.Tensor], put: Callable[[torch.Tensor], object]) -> Source:
    """Returns a source whose state is NumPy's, as those of the other generators are."""
    return Source(kind, lambda: get().numpy(), lambda state: put(torch.from_numpy(state)))


def device_copies() -> DeviceCopies | None:
    """Returns what copies a GPU's tensors; ``None`` while no GPU is in use."""
    return DeviceCopies() if _cuda_in_use() else None


def environment() -> dict[str, str]:
    """Returns what the bits of torch's results depend on besides its inputs."""
    facts = {
        "torch": str(torch.__version__),
        "torch threads": str(torch.get_num_threads()),
        "torch interop threads": str(torch.get_num_interop_threads()),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "oneDNN": str(torch.backends.mkldnn.enabled),
    }
    if not _cuda_in_use():
        return facts
    cudnn = torch.backends.cudnn
    return facts | {
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(cudnn.version()),  # type: ignore[no-untyped-call]
        "cuDNN deterministic": str(cudnn.deterministic),
        "cuDNN benchmark": str(cudnn.benchmark),
        "GPUs": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
    }


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
