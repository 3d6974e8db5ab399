"""scikit-learn: what ``partial_fit`` goes on from, without pickle."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import sklearn
from sklearn.utils import check_random_state

from plinius.errors import ConfigError, IntegrityError
from plinius.frameworks.leaves import processors, warn_of_differences

_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_REMADE = {"_loss_function_": ("sklearn.linear_model._sgd_fast", "sklearn._loss")}
"""Attributes that every ``partial_fit`` makes anew before it reads them, by where their values' classes live."""

_PARTS = {
    "LabelBinarizer": "sklearn.preprocessing",
    "SGDOptimizer": "sklearn.neural_network._stochastic_optimizers",
    "AdamOptimizer": "sklearn.neural_network._stochastic_optimizers",
}
"""Classes whose attributes are all there is to them, and where they live."""


class Estimator:
    """An estimator's parameters and fitted attributes, as a `Mirror` takes them.

    Give it to a mirror: ``Mirror(pool, key, name=..., model=Estimator(model))``. Parameters that were saved replace
    those that the estimator has now.

    Args:
        estimator: With ``partial_fit``; its attributes are arrays, plain values, containers of them and
            `numpy.random.RandomState`.
    """

    def __init__(self, estimator: Any) -> None:
        if not callable(getattr(estimator, "partial_fit", None)):
            raise ConfigError(
                f"a {type(estimator).__qualname__} has no partial_fit, so there is no training that could go on"
            )
        self.estimator = estimator

    def state_dict(self) -> dict[str, Any]:
        """Returns the attributes.

        Raises:
            ConfigError: One would not come back exactly; the message names it.
        """
        kind = type(self.estimator).__qualname__
        return {"environment": _environment(), "class": kind, "attributes": _Packer().attributes(self.estimator, kind)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts the attributes back.

        Raises:
            ConfigError: They are of another class.
        """
        kind = type(self.estimator).__qualname__
        if state["class"] != kind:
            raise ConfigError(f"the mirror holds a {state['class']}, this is a {kind}; nothing was changed")
        warn_of_differences(state["environment"], _environment())
        live = vars(self.estimator)
        unpacker = _Unpacker(live)
        attributes = {name: unpacker.value(node, name) for name, node in state["attributes"].items()}
        live.clear()
        live.update(attributes)


class _Packer:
    """Values to plain ones: every dict is ``{kind: ...}``, so that none can be mistaken for another."""

    def __init__(self) -> None:
        self.generators: dict[int, int] = {}

    def attributes(self, owner: object, path: str) -> dict[str, Any]:
        return {
            name: self.value(value, f"{path}.{name}")
            for name, value in vars(owner).items()
            if not _is_remade(name, value)
        }

    def value(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind in _SCALARS or isinstance(value, np.generic):
            return value
        if kind is np.ndarray:
            return value if value.dtype != object else self._objects(value, path)
        if kind in (list, tuple):
            return kind(self.value(item, f"{path}[{i}]") for i, item in enumerate(value))
        if kind is dict:
            return {"dict": [(key, self.value(item, f"{path}[{key!r}]")) for key, item in value.items()]}
        if kind is np.random.RandomState:
            return self._generator(value)
        if _PARTS.get(kind.__name__) in (kind.__module__, kind.__module__.rpartition(".")[0]):
            return {"part": kind.__name__, "attributes": self.attributes(value, path)}
        raise ConfigError(f"{path}: a {kind.__qualname__} cannot be mirrored exactly; this estimator cannot be resumed")

    def _objects(self, array: Any, path: str) -> dict[str, Any]:
        """Returns an array of strings or the like, as pandas makes them."""
        items = [self.value(item, f"{path}[{i}]") for i, item in enumerate(array.flat)]
        return {"objects": items, "shape": array.shape}

    def _generator(self, generator: np.random.RandomState) -> dict[str, Any]:
        if generator is check_random_state(None):
            return {"generator": "global"}  # the mirror has it as NumPy's
        number = self.generators.setdefault(id(generator), len(self.generators))
        return {"generator": number, "state": generator.get_state(legacy=False)}


class _Unpacker:
    """What `_Packer` made, back to values; a generator that is there already is kept."""

    def __init__(self, live: Mapping[str, Any]) -> None:
        self.live = live
        self.generators: dict[int, np.random.RandomState] = {}

    def value(self, node: Any, name: str = "") -> Any:
        if type(node) in (list, tuple):
            return type(node)(self.value(item) for item in node)
        if type(node) is not dict:
            return node
        kinds: dict[str, Callable[[], Any]] = {
            "dict": lambda: {key: self.value(item) for key, item in node["dict"]},
            "objects": lambda: self._objects(node),
            "generator": lambda: self._generator(node, name),
            "part": lambda: self._part(node),
        }
        try:
            return kinds[next(iter(node))]()
        except (KeyError, StopIteration):
            raise IntegrityError(f"the mirrored structure is malformed: an unknown value {list(node)}") from None

    def _objects(self, node: Mapping[str, Any]) -> Any:
        array = np.empty(len(node["objects"]), object)
        array[:] = [self.value(item) for item in node["objects"]]
        return array.reshape(node["shape"])

    def _generator(self, node: Mapping[str, Any], name: str) -> np.random.RandomState:
        if node["generator"] == "global":
            return check_random_state(None)  # type: ignore[no-any-return]
        if node["generator"] not in self.generators:
            here = self.live.get(name)
            generator = here if type(here) is np.random.RandomState else np.random.RandomState()
            generator.set_state(node["state"])
            self.generators[node["generator"]] = generator
        return self.generators[node["generator"]]

    def _part(self, node: Mapping[str, Any]) -> Any:
        kind = getattr(import_module(_PARTS[node["part"]]), node["part"])
        part = kind.__new__(kind)
        vars(part).update((name, self.value(item)) for name, item in node["attributes"].items())
        return part


def _is_remade(name: str, value: object) -> bool:
    return type(value).__module__.startswith(_REMADE.get(name, ()))


def _environment() -> dict[str, str]:
    """Returns what the bits of scikit-learn's results depend on besides its inputs."""
    return {
        "scikit-learn": sklearn.__version__,
        "scipy": import_module("scipy").__version__,
        "CPUs": processors(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }
