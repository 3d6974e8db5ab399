"""Where generations are drained to: a folder, or whatever fsspec reaches. A file there is whole or has another name."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from plinius.errors import ConfigError, IntegrityError, PliniusError, PoolError, PoolVersion
from plinius.files import reason, sync_folder


class FarEnd(Protocol):
    """A place for files. Its name is what messages call it."""

    name: str

    def files(self) -> list[str]:
        """The names of all files; none where there is no such place yet."""

    def create(self, file: str) -> AbstractContextManager[BinaryIO]:
        """A file that gets its name, in the place of another, when the block has ended well."""

    def open(self, file: str) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """A file and its length."""

    def remove(self, file: str) -> None:
        """Removes a file; that there is none is well."""


def far_end(url: str | os.PathLike[str]) -> FarEnd:
    """The place that a URL names.

    Args:
        url: A folder, which is made when it is needed, or a URL that fsspec knows.

    Raises:
        ConfigError: There is no such kind of place, or what reaches it is not installed.
    """
    if not isinstance(url, (str, os.PathLike)):
        raise ConfigError(f"name a folder or a URL to drain to, not {url!r}")
    text = os.fspath(url)
    if "://" not in text or text.startswith("file://"):
        return _Folder(text.removeprefix("file://"))
    return _Remote(text)


class _Folder:
    def __init__(self, path: str) -> None:
        if not path:
            raise ConfigError("name a folder or a URL to drain to")
        self.name, self._path = path, Path(path)

    def files(self) -> list[str]:
        with _saying(self.name, "cannot list it"):
            try:
                return os.listdir(self._path)  # noqa: PTH208 (the names are what is wanted)
            except FileNotFoundError:
                return []

    @contextmanager
    def create(self, file: str) -> Iterator[BinaryIO]:
        with _saying(self.name, "cannot write there"):
            self._make()
            partial = self._path / _partial(file)
            try:
                with os.fdopen(
                    os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
                ) as to:
                    yield to
                    to.flush()
                    os.fsync(to.fileno())
                partial.rename(self._path / file)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            sync_folder(str(self._path))

    @contextmanager
    def open(self, file: str) -> Iterator[tuple[BinaryIO, int]]:
        with _saying(self.name, "cannot read there"):
            # Whoever keeps the folder may have put a pipe there: opening must not wait for its other end.
            descriptor = os.open(self._path / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                os.close(descriptor)
                raise IntegrityError(f"{file} is no file")
            with os.fdopen(descriptor, "rb") as opened:
                yield opened, found.st_size

    def remove(self, file: str) -> None:
        with _saying(self.name, "cannot remove an old generation"):
            (self._path / file).unlink(missing_ok=True)

    def _make(self) -> None:
        if not self._path.is_dir():
            self._path.mkdir(parents=True, exist_ok=True)
            sync_folder(str(self._path.parent))


class _Remote:
    def __init__(self, url: str) -> None:
        self.name = re.sub(r"//[^/@]*@", "//", url)  # it may name a password
        try:
            core = import_module("fsspec.core")
        except ImportError:
            raise ConfigError(
                f"{self.name}: a URL needs fsspec: pip install 'plinius[drain]'; or name a folder"
            ) from None
        try:
            found = core.url_to_fs(url)
        except Exception as error:  # every file system raises what it likes
            raise ConfigError(f"{self.name}: fsspec cannot use this URL: {reason(error)}") from None
        self._system: Any = found[0]
        self._root: str = found[1].rstrip("/")

    def files(self) -> list[str]:
        with _saying(self.name, "cannot list it"):
            self._system.invalidate_cache()
            try:
                paths: list[str] = self._system.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            return [path.rstrip("/").rpartition("/")[2] for path in paths]

    @contextmanager
    def create(self, file: str) -> Iterator[BinaryIO]:
        """Not every file system keeps a file that is being written out of sight, but all give it its name at once.

        An object store does so by one copy of its own.
        """
        partial = self._at(_partial(file))
        with _saying(self.name, "cannot write there"):
            self._system.makedirs(self._root, exist_ok=True)
            try:
                with self._system.open(partial, "wb") as to:
                    yield to
                self._system.mv(partial, self._at(file))
            except BaseException:
                with suppress(Exception):
                    self._system.rm_file(partial)
                raise

    @contextmanager
    def open(self, file: str) -> Iterator[tuple[BinaryIO, int]]:
        with _saying(self.name, "cannot read there"), self._system.open(self._at(file), "rb") as opened:
            yield opened, int(self._system.size(self._at(file)))

    def remove(self, file: str) -> None:
        with _saying(self.name, "cannot remove an old generation"), suppress(FileNotFoundError):
            self._system.rm_file(self._at(file))

    def _at(self, file: str) -> str:
        return f"{self._root}/{file}"


@contextmanager
def _saying(name: str, what: str) -> Iterator[None]:
    """Says of every error which place it is about, and makes it one of ours."""
    try:
        yield
    except (IntegrityError, PoolVersion) as error:
        error.args = (f"{name}: {error}",)
        raise
    except PliniusError:
        raise
    except Exception as error:  # every file system raises what it likes
        raise PoolError(f"{name}: {what}: {reason(error)}") from error


def _partial(file: str) -> str:
    return f"{file}.{secrets.token_hex(4)}.part"
