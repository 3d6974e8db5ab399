"""torch.distributed.checkpoint over a mirror: `dcp.save` and `dcp.load` of one process, without pickle."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from plinius import Key, Pool
from plinius.errors import ConfigError, PliniusError
from plinius.frameworks.plain import has_tree, read_tree, write_tree


class _Storage:
    """Where a checkpoint lies.

    Args:
        pool: The pool.
        key: The job's key.
        name: Tells mirrors in one pool apart; the ``checkpoint_id`` of `dcp.save` or `dcp.load` is put after it.

    Raises:
        ConfigError: The job has more than one process.
    """

    def __init__(self, pool: Pool, key: Key, *, name: str = "dcp") -> None:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise ConfigError(f"{dist.get_world_size()} processes: a mirror keeps checkpoints of one process")
        self._pool, self._key, self._base = pool, key, name
        self._name = name

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Chooses the checkpoint."""
        self._name = self._base if checkpoint_id is None else f"{self._base}/{os.fspath(checkpoint_id)}"

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tells torch that no ``checkpoint_id`` alone means a mirror: a pool and a key are needed."""
        return False


class MirrorWriter(_Storage, StorageWriter):
    """``dcp.save(state, storage_writer=MirrorWriter(pool, key))``: replaces the last one of this name at once."""

    def set_up_storage_writer(self, is_coordinator: bool, *_: Any, **__: Any) -> None:
        """Begins a checkpoint."""
        self._items: dict[str, Any] = {}

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Returns the plan."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Returns the plans."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Collects the tensors, without copying them, and the plain values as they are, without torch's pickling."""
        for item in plan.items:
            self._items[item.index.fqn] = _resolved(item, planner)
        done: Future[list[WriteResult]] = Future()
        done.set_result([WriteResult(item.index, item.tensor_storage_size() or 0, None) for item in plan.items])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Seals the checkpoint; it is durable when this returns.

        Raises:
            ConfigError: It holds a value that is neither a tensor nor plain.
        """
        paths = {name: list(path) for name, path in (metadata.planner_data or {}).items()}
        write_tree(self._pool, self._key, self._name, {"items": self._items, "paths": paths}, 0)
        self._items = {}


class MirrorReader(_Storage, StorageReader):
    """``dcp.load(state, storage_reader=MirrorReader(pool, key), planner=MirrorLoadPlanner())``."""

    def exists(self, checkpoint_id: str | os.PathLike[str] | None = None) -> bool:
        """Tells whether there is a checkpoint to load."""
        self.reset(checkpoint_id)
        return has_tree(self._pool, self._key, self._name)

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Opens the checkpoint and says what is in it."""
        self._items: dict[str, Any] = {}
        self._failure: PliniusError | None = None
        try:
            saved = read_tree(self._pool, self._key, self._name)
        except PliniusError as error:  # torch would take it for a missing file and go on
            self._failure = error
            return Metadata({})
        self._items = saved["items"]
        paths = {name: tuple(path) for name, path in saved["paths"].items()}
        return Metadata({name: _described(value) for name, value in self._items.items()}, planner_data=paths)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *_: Any, **__: Any) -> None:
        """Begins to load.

        Raises:
            ConfigError: There is no checkpoint.
            IntegrityError: It was changed, or this is not its key.
        """
        if self._failure is not None:
            raise self._failure

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Returns the plan."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Returns the plans."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copies the tensors into those of the state, and puts the plain values there."""
        if not isinstance(planner, MirrorLoadPlanner):
            raise ConfigError("a mirror holds no pickles: give dcp.load planner=MirrorLoadPlanner()")
        for item in plan.items:
            value = self._items[item.storage_index.fqn]
            if item.type == LoadItemType.BYTE_IO:
                planner.load_plain(item, value)
            else:
                _copy(value, item, planner)
        self._items = {}
        done: Future[None] = Future()
        done.set_result(None)
        return done


class MirrorLoadPlanner(DefaultLoadPlanner):
    """The default planner, which takes plain values as they are and never unpickles."""

    def load_plain(self, read_item: ReadItem, value: object) -> None:
        """Puts a plain value into the state."""
        name = read_item.dest_index.fqn
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], value)
        else:
            self.state_dict[name] = value

    def load_bytes(self, read_item: ReadItem, value: object) -> None:
        """Refuses bytes, which torch would unpickle.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"{read_item.dest_index.fqn}: MirrorLoadPlanner loads no pickle; read with MirrorReader")


def _resolved(item: WriteItem, planner: SavePlanner) -> Any:
    if item.type == WriteItemType.BYTE_IO:
        return planner.lookup_object(item.index)  # type: ignore[attr-defined]
    data = item.tensor_data
    if data is None or data.chunk.sizes != data.size:
        raise ConfigError(f"{item.index.fqn}: a part of a sharded tensor; a mirror keeps whole ones")
    return planner.resolve_data(item)


def _described(value: Any) -> TensorStorageMetadata | BytesStorageMetadata:
    if not isinstance(value, torch.Tensor):
        return BytesStorageMetadata()
    chunk = ChunkStorageMetadata(offsets=torch.Size([0] * value.dim()), sizes=value.size())
    return TensorStorageMetadata(TensorProperties.create_from_tensor(value), value.size(), [chunk])


def _copy(saved: torch.Tensor, item: ReadItem, planner: LoadPlanner) -> None:
    target = planner.resolve_tensor(item).detach()
    if saved.dtype != target.dtype:
        raise ConfigError(f"{item.dest_index.fqn}: dtype {saved.dtype} then, {target.dtype} now")
    for dim, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
        saved = saved.narrow(dim, offset, length)
    target.copy_(saved)
    planner.commit_tensor(item, target)
