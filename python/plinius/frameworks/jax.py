"""JAX: trees of arrays that nobody can change, so a restore returns a new tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from plinius.errors import ConfigError, IntegrityError
from plinius.frameworks.leaves import Abstract, array_of, bits_of, check_alike, processors, warn_of_differences
from plinius.mirror import Mirror
from plinius.pool import Pool
from plinius.seal import Key

_SCALARS = (bool, int, float, complex)


class JaxMirror:
    """Mirrors one tree (parameters, optimizer state, random keys, ...) into a pool.

    Args:
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.
        every: `save` writes when the step is a multiple of this.
    """

    def __init__(self, pool: Pool, key: Key, *, name: str, every: int = 1) -> None:
        self._tree = _Tree()
        self._mirror = Mirror(pool, key, name=name, every=every, tree=self._tree)

    def restore(self, template: Any) -> tuple[int, Any] | None:
        """Returns the newest generation (mirror in).

        Args:
            template: A tree like the saved one: its structure is returned, with each array where the template's is.
                Its values do not matter, so `jax.eval_shape` can make it.

        Returns:
            The step and the tree as it was then; None when the pool holds no mirror of this name.

        Raises:
            IntegrityError: Bytes were changed, or this is not their key.
            ConfigError: The template has other paths, shapes or dtypes.
            PoolError: The pool cannot be read.
        """
        paths, leaves, structure = _flat(template)
        self._tree.expected = {path: _abstract(leaf, path) for path, leaf in zip(paths, leaves, strict=True)}
        step = self._mirror.restore()
        if step is None:
            return None
        saved, self._tree.leaves = self._tree.leaves, {}
        restored = [_restored(saved[path], leaf, path) for path, leaf in zip(paths, leaves, strict=True)]
        return step, structure.unflatten(restored)

    def save(self, step: int, tree: Any, *, force: bool = False, overwrite: bool = False) -> bool:
        """Seals the tree into the pool (mirror out); it is durable when this returns.

        Args:
            step: How many optimizer steps the tree has behind it; above that of the last save.
            tree: Anything that JAX flattens into arrays, random keys, NumPy arrays and numbers.
            force: Save even if the step is no multiple of ``every``.
            overwrite: Start anew: what the pool holds of this name is given up.

        Returns:
            Whether anything was written.

        Raises:
            PoolError: The pool holds a mirror that was not restored here, or is in use, or failed.
            ConfigError: The step is not above the latest, or a leaf cannot be mirrored.
        """
        paths, leaves, _ = _flat(tree)
        self._tree.leaves = {path: _saved(leaf, path) for path, leaf in zip(paths, leaves, strict=True)}
        try:
            return self._mirror.save(step, force=force, overwrite=overwrite)
        finally:
            self._tree.leaves = {}

    def latest_step(self) -> int | None:
        """The step of the newest durable generation, verified; None when there is none."""
        return self._mirror.latest_step()

    def close(self) -> None:
        """Lets go of what was saved last. It is durable already; the pool stays open."""
        self._mirror.close()


class _Tree:
    """The saved leaves by path, as a Mirror takes them."""

    def __init__(self) -> None:
        self.leaves: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, Abstract] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"environment": _environment(), "leaves": self.leaves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        leaves = state["leaves"]
        check_alike("the tree", {path: _saved_abstract(leaf) for path, leaf in leaves.items()}, self.expected)
        warn_of_differences(state["environment"], _environment())
        self.leaves = leaves


def _flat(tree: Any) -> tuple[list[str], list[Any], Any]:
    entries, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [jax.tree_util.keystr(path) or "(the tree)" for path, _ in entries]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(f"{twice}: two leaves of the tree have this path; give their keys different names")
    return paths, [leaf for _, leaf in entries], structure


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _abstract(leaf: Any, path: str) -> Abstract:
    """Returns the shape and dtype of a leaf; a Python number has those of the array that a step makes of it."""
    if type(leaf) in _SCALARS:
        return (), str(jnp.result_type(type(leaf)))
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic)):
        return tuple(leaf.shape), str(leaf.dtype)
    raise ConfigError(
        f"{path}: a {type(leaf).__qualname__} is no array and no number, so it cannot be mirrored; leave it out"
    )


def _saved(leaf: Any, path: str) -> dict[str, Any]:
    """Returns a leaf as bytes and what they mean."""
    _, dtype = _abstract(leaf, path)
    if not isinstance(leaf, jax.Array):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise ConfigError(f"{path}: it has a shape but no values; save the arrays themselves")
        kind = "numpy" if isinstance(leaf, np.ndarray) else "value"
        return {"kind": kind, "dtype": dtype, "value": bits_of(leaf, path) if kind == "numpy" else leaf}
    if not leaf.is_fully_addressable:
        raise ConfigError(f"{path}: parts of it are on other hosts; a mirror's training is one process")
    if _is_key(leaf):
        return {
            "kind": "key",
            "dtype": dtype,
            "shape": leaf.shape,
            "implementation": str(jax.random.key_impl(leaf)),
            "value": np.asarray(jax.random.key_data(leaf)),
        }
    return {"kind": "array", "dtype": dtype, "weak": leaf.weak_type, "value": bits_of(np.asarray(leaf), path)}


def _saved_abstract(leaf: Mapping[str, Any]) -> Abstract:
    return tuple(leaf["shape"] if leaf["kind"] == "key" else np.shape(leaf["value"])), leaf["dtype"]


def _restored(saved: Mapping[str, Any], like: Any, path: str) -> Any:
    """Returns the leaf that was saved, on the device of the template's."""
    value = saved["value"]
    if saved["kind"] == "value":
        return value
    if saved["kind"] == "numpy":
        return array_of(value, saved["dtype"])
    if saved["kind"] == "key":
        return _placed(jax.random.wrap_key_data(jnp.asarray(value), impl=saved["implementation"]), like)
    array = jnp.asarray(array_of(value, saved["dtype"]))
    if array.dtype != saved["dtype"]:
        raise ConfigError(f"{path}: JAX makes {array.dtype} of {saved['dtype']}; set jax_enable_x64 as it was then")
    return _placed(_weak(array, path) if saved["weak"] else array, like)


def _weak(array: jax.Array, path: str) -> jax.Array:
    """Returns the array with JAX's weak type, by which its dtype yields to others'."""
    weak = jnp.full(array.shape, array.dtype.type(0).item()).at[...].set(array)
    if weak.dtype != array.dtype or not weak.weak_type:
        raise IntegrityError(f"{path}: the mirrored structure is malformed: {array.dtype} is never weak")
    return weak


def _placed(array: jax.Array, like: Any) -> jax.Array:
    """Returns the array where the template's is: bound to its devices only if that one is."""
    sharding = getattr(like, "sharding", None)
    if sharding is None or not getattr(like, "committed", True):
        return array
    return jax.device_put(array, sharding)


def _environment() -> dict[str, str]:
    """Returns what the bits of JAX's results depend on besides its inputs."""
    return {
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "JAX devices": ", ".join(str(device.device_kind) for device in jax.devices()),
        "jax_enable_x64": str(jax.config.jax_enable_x64),
        "jax_default_matmul_precision": str(jax.config.jax_default_matmul_precision),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "CPUs": processors(),
    }
