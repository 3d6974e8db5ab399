"""How much private memory a save and a restore take beyond the model, in a process of its own.

Private is what is resident and no page of a file: a pool on emulated PM is not, as real PM would not be in an EPC.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plinius.errors import PliniusError

if TYPE_CHECKING:
    from plinius.bench.tensors import Tensors

_PATIENCE_S: Final = 300
_SAMPLE_S: Final = 0.0005
_WARM_BYTES: Final = 1 << 16
OURS: Final = "plinius"
FILE: Final = "AES-GCM"


def beyond_model_bytes(system: str, size_mb: float, folder: Path) -> int:
    """The peak of private memory while a model is saved and restored, less what there was with the model alone.

    Args:
        system: Ours, or the encrypted file.
        size_mb: Of the model, in MB.
        folder: Where the pool or the file is made.

    Raises:
        PliniusError: The process failed.
    """
    command = [sys.executable, "-m", __name__, system, str(size_mb), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise PliniusError(f"measuring private memory failed: {last[0]}")
    return int(ran.stdout)


def _main() -> None:
    system, size_mb, folder = sys.argv[1:]
    from plinius.bench.tensors import transformer  # noqa: PLC0415 (torch: only in the process that is measured)

    work = {OURS: _mirror, FILE: _file}[system]
    # What is loaded and allocated once, whatever the size, is no memory of a save.
    work(transformer(_WARM_BYTES), Path(folder) / "warm")()
    model = transformer(round(float(size_mb) * 10**6))
    run = work(model, Path(folder) / "measured")
    gc.collect()
    before = _private_bytes()
    with _peak() as peak:
        run()
    sys.stdout.write(f"{max(0, peak[0] - before)}\n")


def _mirror(model: Tensors, folder: Path) -> Callable[[], None]:
    from plinius.mirror import Mirror  # noqa: PLC0415
    from plinius.pool import Pool  # noqa: PLC0415
    from plinius.seal import Key  # noqa: PLC0415

    folder.mkdir()
    warnings.simplefilter("ignore")

    def run() -> None:
        with Pool(folder / "pool") as pool:
            mirror = Mirror(pool, Key.generate(), name="model", tensors=model)
            mirror.save(1)
            mirror.restore()

    return run


def _file(model: Tensors, folder: Path) -> Callable[[], None]:
    from plinius.bench.methods import encrypted_file  # noqa: PLC0415

    folder.mkdir()
    method = encrypted_file()

    def run() -> None:
        method.save(model, folder)
        method.load(model, folder)

    return run


@contextmanager
def _peak() -> Iterator[list[int]]:
    """The largest private memory meanwhile, as the one item of a list; the core and fsync let the thread run."""
    peak = [_private_bytes()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_S):
            peak[0] = max(peak[0], _private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def _private_bytes() -> int:
    """Resident pages that belong to no file, from proc(5), /proc/pid/statm."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _main()
