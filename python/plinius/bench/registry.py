"""All experiments, in the order of the report. Each is a module of this package with a constant EXPERIMENT."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from plinius.bench.experiment import Experiment
from plinius.errors import ConfigError

# The paper's in its order, and then what it did not have.
_PAPERS: Final = ("fig2", "fig6", "fig7", "sgxmodel", "fig8", "inference", "fig9", "fig10", "frequency", "tcb")
_BEYOND: Final = ("overhead", "unchanged", "anchor", "restart")
NAMES: Final = (*_PAPERS, *_BEYOND)


def load(name: str) -> Experiment:
    """Imports an experiment.

    Raises:
        ConfigError: A package that it needs is missing.
    """
    try:
        return cast("Experiment", import_module(f"plinius.bench.{name}").EXPERIMENT)
    except ModuleNotFoundError as error:
        missing = error.name or "a module"
        if missing.partition(".")[0] == "plinius":
            raise ConfigError(f"this version has no {missing}") from None
        raise ConfigError(f"{name} needs the package {missing}: pip install 'plinius[torch]'") from None
