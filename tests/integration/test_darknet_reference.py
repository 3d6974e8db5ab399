"""The same weights give the same predictions, and the same training, as Debian's ``darknet``.

Run as a program, this file is the other side: it drives ``libdarknet.so`` in a process of its own, because
the library ends the process when it meets an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

OWN_CFGS = Path(__file__).parent.parent / "unit" / "cfg"
INSTALLED = Path("/usr/lib/darknet/libdarknet.so")

# [batchnorm] is missing: it crashes Debian's library, which allocates half of it only on a GPU.
PREDICTED = [
    "activation",
    "connected",
    "convolutional",
    "cost-l1",
    "cost-sse",
    "crop",
    "dropout",
    "maxpool",
    "route",
    "shortcut",
    "softmax",
    "softmax-cost",
    "upsample",
]
# Crop and dropout draw from another generator in training.
TRAINED = [name for name in PREDICTED if name not in ("crop", "dropout")]
SHARED = ["plinius-mnist", "plinius-small-1", "darknet-tiny"]

UPDATES = 3
MOST_PROBABILITY_DIFFERENCE = 1e-4
MOST_WEIGHT_DIFFERENCE = 1e-4
"""Relative to the largest value of each tensor."""


class _Matrix(ctypes.Structure):
    """Darknet's ``matrix``: include/darknet.h."""

    _fields_ = (
        ("rows", ctypes.c_int),
        ("cols", ctypes.c_int),
        ("vals", ctypes.POINTER(ctypes.POINTER(ctypes.c_float))),
    )


class _NetworkBegin(ctypes.Structure):
    """How Darknet's ``network`` begins: include/darknet.h."""

    _fields_ = (("n", ctypes.c_int), ("batch", ctypes.c_int), ("seen", ctypes.POINTER(ctypes.c_size_t)))


class _Data(ctypes.Structure):
    """Darknet's ``data``: include/darknet.h."""

    _fields_ = (
        ("w", ctypes.c_int),
        ("h", ctypes.c_int),
        ("X", _Matrix),
        ("y", _Matrix),
        ("shallow", ctypes.c_int),
        ("num_boxes", ctypes.c_void_p),
        ("boxes", ctypes.c_void_p),
    )


def _load(library: str) -> ctypes.CDLL:
    """Loads the library without its OpenCV functions, which ctypes alone would insist on."""
    dlopen = ctypes.CDLL(None, use_errno=True).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    handle = dlopen(library.encode(), os.RTLD_LAZY)
    if not handle:
        raise SystemExit(f"{library} does not load")
    darknet = ctypes.CDLL(library, handle=handle)
    darknet.load_network.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    darknet.load_network.restype = ctypes.c_void_p
    darknet.network_predict.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_float))
    darknet.network_predict.restype = ctypes.POINTER(ctypes.c_float)
    darknet.network_outputs.argtypes = (ctypes.c_void_p,)
    darknet.train_network.argtypes = (ctypes.c_void_p, _Data)
    darknet.train_network.restype = ctypes.c_float
    darknet.save_weights.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    darknet.save_weights.restype = None
    darknet.get_current_rate.argtypes = (ctypes.c_void_p,)
    darknet.get_current_rate.restype = ctypes.c_float
    return darknet


def _matrix(array: np.ndarray) -> _Matrix:
    floats = ctypes.POINTER(ctypes.c_float)
    rows = (floats * len(array))(*(row.ctypes.data_as(floats) for row in array))
    return _Matrix(len(array), array.shape[1], rows)


def _rates(darknet: ctypes.CDLL, network: int, iterations: list[int]) -> list[float]:
    begin = _NetworkBegin.from_address(network)
    rates = []
    for iteration in iterations:
        begin.seen[0] = iteration * begin.batch
        rates.append(darknet.get_current_rate(network))
    return rates


def _drive_library(library: str, job_path: str) -> None:
    """Does one job in libdarknet: predicts, trains and saves the weights, or gives learning rates."""
    job = json.loads(Path(job_path).read_text())
    darknet = _load(library)
    network = darknet.load_network(job["cfg"].encode(), job["weights"].encode(), 0)
    if job["what"] == "rates":
        np.save(job["out"], _rates(darknet, network, job["iterations"]))
        return
    images = np.load(job["images"])
    if job["what"] == "predict":
        found = darknet.network_predict(network, images.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
        size = len(images) * darknet.network_outputs(network)
        np.save(job["out"], np.ctypeslib.as_array(found, (size,)).reshape(len(images), -1))
    else:
        data = _Data(X=_matrix(images.reshape(len(images), -1)), y=_matrix(np.load(job["truth"])))
        darknet.train_network(network, data)
        darknet.save_weights(network, job["out"].encode())


if __name__ == "__main__":
    # What follows needs PyTorch, which takes seconds to import and which this side does without.
    _drive_library(*sys.argv[1:])
    raise SystemExit

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from plinius.darknet import Network, Schedule, accumulate_gradients, make_optimizer, parse, set_rate  # noqa: E402
from plinius.darknet import weights as weights_file  # noqa: E402


def _unpacked(cache: Path) -> Path:
    """Downloads and unpacks Debian's package, without root."""
    if shutil.which("apt-get") is None:
        pytest.skip("Debian's package darknet is not installed, and there is no apt-get to download it with")
    commands = [["apt-get", "download", "darknet"]]
    if os.geteuid() == 0:
        commands += [["apt-get", "-qq", "update"], ["apt-get", "download", "darknet"]]
    for command in commands:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=cache, capture_output=True, timeout=60, check=False)
        packages = list(cache.glob("darknet_*.deb"))
        if packages:
            subprocess.run(["dpkg-deb", "-x", packages[0], cache], check=True, timeout=120)
            return cache / INSTALLED.relative_to("/")
    pytest.skip("Debian's package darknet is not installed and could not be downloaded")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The path of a libdarknet.so that loads without OpenCV, which it uses for windows and cameras only."""
    kept = getattr(pytestconfig, "cache", None)
    cache = kept.mkdir("plinius") if kept else tmp_path_factory.mktemp("plinius")
    cache = Path(os.environ.get("PLINIUS_CACHE", cache))
    ready = cache / "libdarknet-without-opencv.so"
    if not ready.exists():
        cache.mkdir(parents=True, exist_ok=True)
        found = INSTALLED if INSTALLED.exists() else _unpacked(cache)
        # The names of the four libraries in the file's string table become that of one that is always there.
        patched = re.sub(
            rb"libopencv_\w+\.so\.\d+",
            lambda match: b"libm.so.6".ljust(len(match[0]), b"\0"),
            found.read_bytes(),
        )
        part = ready.with_suffix(f".{os.getpid()}")
        part.write_bytes(patched)
        part.rename(ready)
    return ready


def _text(name: str) -> bytes:
    if (OWN_CFGS / f"{name}.cfg").exists():
        return (OWN_CFGS / f"{name}.cfg").read_bytes()
    if "PLINIUS_DATA" not in os.environ:
        pytest.skip("PLINIUS_DATA does not name the folder with the cfg files of Plinius and Darknet")
    text = (Path(os.environ["PLINIUS_DATA"]) / "cfg" / f"{name}.cfg").read_bytes()
    # A small batch is as good a proof, and Darknet is slow.
    return re.sub(rb"(?m)^batch=\d+", b"batch=2", text)


def _network(text: bytes, name: str) -> Network:
    """A network whose biases, scales and rolling statistics are not their initial zeros and ones."""
    generator = torch.Generator().manual_seed(len(name))
    network = Network(parse(text, name), generator)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith("rolling_variance"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif not key.endswith("weights"):
                tensor.add_(torch.empty_like(tensor).normal_(0.0, 0.3, generator=generator))
    return network


def _images(network: Network, count: int) -> torch.Tensor:
    shape = network.config.input_shape
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, shape.channels, shape.height, shape.width, generator=generator)


def _ask(library: Path, folder: Path, text: bytes, network: Network, job: dict[str, Any], **arrays: Any) -> Path:
    """Has libdarknet do a job with the network's cfg and weights, and gives the path of the result."""
    (folder / "net.cfg").write_bytes(text)
    (folder / "net.weights").write_bytes(weights_file.write(network, seen=0))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.numpy())
        job[name] = str(folder / f"{name}.npy")
    job |= {
        "cfg": str(folder / "net.cfg"),
        "weights": str(folder / "net.weights"),
        "out": str(folder / "out.npy"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, __file__, str(library), str(folder / "job.json")]
    run = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:].decode(errors="replace")
    return folder / "out.npy"


@pytest.mark.parametrize("name", PREDICTED + SHARED)
def test_predictions_are_those_of_darknet(library: Path, tmp_path: Path, name: str) -> None:
    text = _text(name)
    network = _network(text, name).eval()
    net = network.config.net
    images = _images(network, net.batch // net.subdivisions)
    expected = np.load(_ask(library, tmp_path, text, network, {"what": "predict"}, images=images))
    with torch.no_grad():
        found = network(images).numpy()
    assert found.std() > 1e-3, "predictions that are all alike would prove nothing"
    difference = np.abs(found - expected).max()
    print(f"{name}: largest difference {difference:.2g}")
    assert difference < MOST_PROBABILITY_DIFFERENCE


@pytest.mark.parametrize("name", [*TRAINED, "plinius-small-1"])
def test_training_changes_weights_as_darknet_does(library: Path, tmp_path: Path, name: str) -> None:
    text = _text(name).replace(b"probability=.5", b"probability=0")
    network = _network(text, name).train()
    config = network.config
    images = _images(network, UPDATES * config.net.batch)
    labels = torch.arange(len(images)) % config.outputs
    truth = torch.nn.functional.one_hot(labels, config.outputs).float()
    before = weights_file.write(network, seen=0)
    saved = _ask(library, tmp_path, text, network, {"what": "train"}, images=images, truth=truth).read_bytes()

    optimizer, schedule = make_optimizer(network, config), Schedule(config.net)
    for iteration in range(1, UPDATES + 1):
        batch = slice((iteration - 1) * config.net.batch, iteration * config.net.batch)
        set_rate(optimizer, schedule.rate(iteration))
        optimizer.zero_grad()
        accumulate_gradients(network, images[batch], labels[batch])
        optimizer.step()

    ours = weights_file.write(network, seen=len(images))
    assert ours[:20] == saved[:20]
    largest = _largest_difference(network, saved, ours, before)
    print(f"{name}: largest difference {largest:.2g}")
    assert largest < MOST_WEIGHT_DIFFERENCE


RATE_POLICIES = [
    "policy=constant",
    "policy=step\nstep=7\nscale=.7",
    "policy=steps\nsteps=3,20,21\nscales=.5,.1,3",
    "policy=exp\ngamma=.97",
    "policy=poly\nmax_batches=60\npower=2.5",
    "policy=poly\nmax_batches=60",
    "policy=constant\nburn_in=10\npower=3",
    "policy=sigmoid\ngamma=.2\nstep=1",
]


@pytest.mark.parametrize("policy", RATE_POLICIES)
def test_learning_rates_are_those_of_darknet(library: Path, tmp_path: Path, policy: str) -> None:
    net = f"[net]\nheight=1\nwidth=1\nchannels=2\nlearning_rate=.3\n{policy}\n"
    text = f"{net}[connected]\noutput=2\n[softmax]\n".encode()
    network = _network(text, policy)
    iterations = list(range(1, 61))
    expected = np.load(_ask(library, tmp_path, text, network, {"what": "rates", "iterations": iterations}))
    found = [Schedule(network.config.net).rate(iteration) for iteration in iterations]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def _largest_difference(network: Network, theirs: bytes, ours: bytes, before: bytes) -> float:
    """The largest difference of any value, relative to the largest value of its tensor."""
    start, largest = 20, 0.0
    for layer in network.layers:
        for tensor in layer.saved() if hasattr(layer, "saved") else []:
            stop = start + 4 * tensor.numel()
            a, b, old = (np.frombuffer(data[start:stop], "<f4") for data in (theirs, ours, before))
            assert not np.array_equal(b, old), "training that changes nothing would prove nothing"
            largest = max(largest, float(np.abs(a - b).max() / np.abs(a).max()))
            start = stop
    return largest
