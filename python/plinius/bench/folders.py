"""Folders for what a benchmark writes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plinius.errors import ConfigError


@contextmanager
def new_folder(place: str) -> Iterator[Path]:
    """A folder that is removed afterwards; its path is absolute.

    Raises:
        ConfigError: There is no such place, or nothing can be made in it.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="plinius-bench-", dir=place)
    except OSError as error:
        raise ConfigError(f"nothing can be made here: {error.strerror}", path=place) from None
    with made as folder:
        yield Path(folder).absolute()  # fio goes into the folder, and would look for it there
