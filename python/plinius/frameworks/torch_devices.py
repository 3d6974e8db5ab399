"""Copies of a GPU's tensors in pinned host memory, made on a stream of their own while the GPU computes on."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class DeviceCopies:
    """The host's copies of one capture after the other; the pinned memory is used again.

    A capture only asks for the copies (`fetch`): which tensors there are is known at its end. `start` orders them:
    first what the next forward pass may write, which the GPU's own stream then waits for, and behind that what an
    optimizer's step writes, which `hold_step` makes it wait for. The host waits for neither before it reads.

    Args:
        cuda: torch's module of that name, or what stands in for it in a test.
    """

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self._streams: dict[int, Any] = {}
        self._hosts: dict[Hashable, torch.Tensor] = {}
        self._asked: dict[Hashable, tuple[torch.Tensor, torch.Tensor]] = {}
        self._others: list[Any] = []
        self._owned: list[Any] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """The capture asks for copies inside of this."""
        self._asked = {}
        _collecting.append(self)
        try:
            yield
        finally:
            _collecting.remove(self)
            # What is not asked for any more gives its pinned memory back.
            self._hosts = {identity: host for identity, (_, host) in self._asked.items()}

    def fetch(self, tensor: torch.Tensor, identity: Hashable) -> torch.Tensor:
        """Host memory for a dense tensor, which is filled after `start`."""
        host = self._hosts.get(identity)
        if host is None:
            pinned = self._cuda.is_available()
            host = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu", pin_memory=pinned
            )
        self._asked[identity] = (tensor, host)
        return host

    def start(self, owned: Collection[Hashable]) -> None:
        """Starts the copies, those of the tensors that optimizers own last."""
        self._others = self._enqueue([pair for identity, pair in self._asked.items() if identity not in owned])
        for device, event in self._others:
            self._cuda.current_stream(device).wait_event(event)
        self._owned = self._enqueue([pair for identity, pair in self._asked.items() if identity in owned])

    def wait_for_others(self) -> None:
        """Waits until all that no optimizer owns may be read."""
        for _, event in self._others:
            event.synchronize()

    def wait(self) -> None:
        """Waits until all may be read."""
        for _, event in [*self._others, *self._owned]:
            event.synchronize()

    def hold_step(self) -> None:
        """Makes the GPU finish the copies before what it is told from now on; the host goes on."""
        for device, event in self._owned:
            self._cuda.current_stream(device).wait_event(event)

    def _enqueue(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[int, Any]]:
        """Copies tensors behind all that their devices have been told so far; returns an event for each device."""
        events = []
        for device in sorted({tensor.get_device() for tensor, _ in pairs}):
            stream = self._streams.setdefault(device, self._cuda.Stream(device))
            stream.wait_stream(self._cuda.current_stream(device))
            with self._cuda.stream(stream):
                for tensor, host in pairs:
                    if tensor.get_device() == device:
                        host.copy_(tensor.detach(), non_blocking=True)
                        tensor.record_stream(stream)  # its memory is nobody else's before it is copied
            events.append((device, stream.record_event()))
        return events


_collecting: list[DeviceCopies] = []


def fetched(tensor: torch.Tensor, identity: Hashable) -> torch.Tensor | None:
    """Host memory that a running capture has asked for; None when the tensor is to be copied at once."""
    return _collecting[-1].fetch(tensor, identity) if _collecting else None
