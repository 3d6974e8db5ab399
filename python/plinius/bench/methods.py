"""Other ways to keep tensors: what people save checkpoints with, each as its documentation says.

Files are written where they are read from, without a rename. What is durable was fsynced, and its folder after it.
"""

from __future__ import annotations

import io
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import safetensors.torch
import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse, async_save, save

from plinius.bench.tensors import Tensors

_KEY_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
# AESGCM holds the GIL, so that more threads are not faster.
_CHUNK_BYTES: Final = 1 << 20
_FILE: Final = "checkpoint"


class Method(ABC):
    """A way to save tensors into a folder of its own, and to load them."""

    name: str

    @abstractmethod
    def save(self, tensors: Tensors, folder: Path) -> None:
        """Saves; the tensors may change when this returns."""

    def finish(self) -> None:  # noqa: B027 (most are finished when save returns)
        """Waits until what was saved is durable."""

    @abstractmethod
    def load(self, tensors: Tensors, folder: Path) -> None:
        """Puts what was saved into the tensors."""


class _Memcpy(Method):
    """Copies into other tensors: no checkpoint, but what no checkpoint can beat."""

    name = "memcpy"

    def __init__(self) -> None:
        self._copies: Tensors = {}

    def save(self, tensors: Tensors, folder: Path) -> None:  # noqa: ARG002 (it needs none)
        if self._copies.keys() != tensors.keys():
            self._copies = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        _put(self._copies, tensors)

    def load(self, tensors: Tensors, folder: Path) -> None:  # noqa: ARG002
        _put(tensors, self._copies)


class _AesGcm(Method):
    """The bytes of the tensors alone, sealed with AES-GCM in chunks."""

    name = "AES-GCM"

    def __init__(self, watch: Callable[[AESGCM], AESGCM]) -> None:
        self._aead = watch(AESGCM(os.urandom(_KEY_BYTES)))

    def save(self, tensors: Tensors, folder: Path) -> None:
        with _durable(folder / _FILE) as file:
            for tensor in tensors.values():
                _seal(self._aead, file, _memory(tensor))

    def load(self, tensors: Tensors, folder: Path) -> None:
        with (folder / _FILE).open("rb") as file:
            for tensor in tensors.values():
                _open(self._aead, file, _memory(tensor))


class _TorchSave(Method):
    """torch.save."""

    name = "torch.save"

    def save(self, tensors: Tensors, folder: Path) -> None:
        with _durable(folder / _FILE) as file:
            torch.save(tensors, file)

    def load(self, tensors: Tensors, folder: Path) -> None:
        _put(tensors, torch.load(folder / _FILE, weights_only=True))


class _SealedTorchSave(Method):
    """torch.save into memory, which is sealed with AES-GCM in chunks."""

    name = "torch.save + AES-GCM"

    def __init__(self) -> None:
        self._aead = AESGCM(os.urandom(_KEY_BYTES))

    def save(self, tensors: Tensors, folder: Path) -> None:
        plain = io.BytesIO()
        torch.save(tensors, plain)
        with _durable(folder / _FILE) as file:
            _seal(self._aead, file, plain.getbuffer())

    def load(self, tensors: Tensors, folder: Path) -> None:
        path = folder / _FILE
        sealed_bytes = path.stat().st_size
        framed = _NONCE_BYTES + _CHUNK_BYTES + _TAG_BYTES
        chunks = -(-sealed_bytes // framed)
        plain = bytearray(sealed_bytes - chunks * (_NONCE_BYTES + _TAG_BYTES))
        with path.open("rb") as file:
            _open(self._aead, file, memoryview(plain))
        _put(tensors, torch.load(io.BytesIO(plain), weights_only=True))


class _Safetensors(Method):
    """safetensors."""

    name = "safetensors"

    def save(self, tensors: Tensors, folder: Path) -> None:
        path = folder / _FILE
        safetensors.torch.save_file(tensors, path)
        _sync(path)
        _sync(folder)

    def load(self, tensors: Tensors, folder: Path) -> None:
        _put(tensors, safetensors.torch.load_file(folder / _FILE))


class _Dcp(Method):
    """torch.distributed.checkpoint, one process; it fsyncs its files itself."""

    name = "DCP"

    def save(self, tensors: Tensors, folder: Path) -> None:
        save(tensors, checkpoint_id=folder, no_dist=True)
        _sync(folder)

    def load(self, tensors: Tensors, folder: Path) -> None:
        load(dict(tensors), checkpoint_id=folder, no_dist=True)


class _AsyncDcp(_Dcp):
    """The same in a thread, from a copy; one save at a time is under way."""

    name = "DCP async"

    def __init__(self) -> None:
        self._running: tuple[Future[Any], Path] | None = None

    def save(self, tensors: Tensors, folder: Path) -> None:
        self.finish()
        begun = async_save(tensors, checkpoint_id=folder, no_dist=True)
        done = begun.upload_completion if isinstance(begun, AsyncSaveResponse) else begun
        self._running = (done, folder)

    def finish(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            future, folder = running
            future.result()
            _sync(folder)


def memcpy() -> Method:
    """The copy in memory."""
    return _Memcpy()


def encrypted_file(watch: Callable[[AESGCM], AESGCM] = lambda aead: aead) -> Method:
    """The encrypted checkpoint.

    Args:
        watch: Wraps what encrypts and decrypts, for one who wants to know how long that takes.
    """
    return _AesGcm(watch)


def durable_methods() -> list[Method]:
    """All that write files."""
    return [encrypted_file(), _TorchSave(), _SealedTorchSave(), _Safetensors(), _Dcp(), _AsyncDcp()]


@contextmanager
def without_their_warnings() -> Iterator[None]:
    """Leaves out what torch.distributed.checkpoint warns of, which is all meant here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        warnings.filterwarnings("ignore", message="Detected an existing checkpoint")
        yield


def forget(folder: Path) -> None:
    """Makes the next load read from the medium: what is durable leaves the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            _advise_forget(path)


def _put(targets: Tensors, sources: Tensors) -> None:
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(sources[name])


def _memory(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().numpy().reshape(-1).view(np.uint8).data


def _chunks(memory: memoryview) -> Iterator[memoryview]:
    for at in range(0, len(memory), _CHUNK_BYTES):
        yield memory[at : at + _CHUNK_BYTES]


def _seal(aead: AESGCM, file: BinaryIO, memory: memoryview) -> None:
    for chunk in _chunks(memory):
        nonce = os.urandom(_NONCE_BYTES)
        file.write(nonce)
        file.write(aead.encrypt(nonce, chunk, None))


def _open(aead: AESGCM, file: BinaryIO, memory: memoryview) -> None:
    for chunk in _chunks(memory):
        nonce = file.read(_NONCE_BYTES)
        chunk[:] = aead.decrypt(nonce, file.read(len(chunk) + _TAG_BYTES), None)


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is durable afterwards."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _advise_forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
