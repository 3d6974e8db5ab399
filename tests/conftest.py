"""What tests of several folders use: a small job, a folder for pools, and a key."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import CFG, Job, idx_bytes, must, pictures
from plinius import Key
from plinius.enclave import main as enclave

pytest_plugins = ["inside", "stand_ins", "tpms"]

_EMULATED_PM = Path("/dev/shm")  # noqa: S108 (every test makes a folder of its own there)
RECORDS = 256


def pytest_configure() -> None:
    """A background job of a shell ignores Ctrl-C, and its children would too: some tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=12, help="how many kills tests/crash/test_kills.py makes")
    parser.addoption("--overlap-kills", type=int, default=24, help="how many tests/crash/test_overlap_kill.py makes")
    parser.addoption("--kills-seed", type=int, default=None, help="repeats the plan of a campaign of kills")


@pytest.fixture(autouse=True)
def no_sandbox_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enclave that is a thread of the tests' process must not shut it in: that could not be taken back."""
    monkeypatch.setattr(enclave, "_prepare", lambda *_: None)


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """A training turns PyTorch's deterministic algorithms on, for its whole process: here that is the tests'."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.use_deterministic_algorithms(mode=False)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on emulated PM, where there is some."""
    if not os.access(_EMULATED_PM, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="plinius-test-", dir=_EMULATED_PM) as name:
        yield Path(name)


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    """A pool that does not exist yet."""
    return folder / "job.pool"


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    """Of a pool's file, which is empty yet."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and labels (IDX), a key, a sealed data set and a cfg; tests do not change it."""
    made = tmp_path_factory.mktemp("job")
    images, labels = pictures(RECORDS, seed=1)
    (made / "images.idx").write_bytes(idx_bytes(images))
    (made / "labels.idx").write_bytes(idx_bytes(labels))
    (made / "net.cfg").write_text(CFG.format(batch=8, learning_rate=0.05, filters=4))
    key, data = made / "job.key", made / "data.sealed"
    must("keygen", key)
    idx = ["--images", made / "images.idx", "--labels", made / "labels.idx"]
    must("seal", "--key", key, *idx, "--output", data)
    return made


@pytest.fixture
def job(files: Path, folder: Path) -> Job:
    """A job that has not begun: its pool does not exist yet."""
    return Job(files / "net.cfg", files / "data.sealed", files / "job.key", folder / "job.pool")
