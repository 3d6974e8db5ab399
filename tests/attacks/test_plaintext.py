"""Looking for secrets in the pool: weights, moments, images, labels and key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from plinius import Key, SealedDataset, seal_dataset
from small_training import Training


def found(needle: bytes, haystack: bytes) -> bool:
    """Whether any eight bytes of the needle, counted from its start, occur anywhere; equal bytes tell nothing."""
    windows = np.frombuffer(needle[: len(needle) // 8 * 8], np.uint8).reshape(-1, 8)
    telling = windows[[len(set(window)) > 3 for window in windows.tolist()]]
    for shift in range(8):
        words = np.frombuffer(haystack, np.uint64, (len(haystack) - shift) // 8, shift)
        if np.isin(words, telling.reshape(-1).view(np.uint64)).any():
            return True
    return False


def test_the_search_finds_what_is_there() -> None:
    needle = bytes(range(64))
    for before in range(9):
        assert found(needle, b"." * (90 + before) + needle[16:40] + b"." * 100)
    assert not found(needle, b"." * 100)


def test_a_pool_holds_no_plaintext(folder: Path) -> None:
    key = Key.generate()
    key.save(folder / "job.key")
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 12, 12), np.uint8)
    labels = np.random.default_rng(1).random((200, 2))
    seal_dataset(images, labels, key, folder / "data.sealed")
    training = Training(folder / "job.pool", key, width=40)
    data = SealedDataset(training.pool, key, folder / "data.sealed")
    plaintexts = [images.tobytes(), labels.tobytes(), data.batch(range(200))[0].tobytes()]
    for step in range(1, 6):
        training.train(step, step)
        plaintexts += [training.weights()]
        plaintexts += [state["exp_avg"].numpy().tobytes() for state in training.optimizer.state.values()]
    training.close()
    secret = (folder / "job.key").read_text().split()[-1]
    plaintexts += [bytes.fromhex(secret), secret.encode()]
    for file in ("job.pool", "data.sealed"):
        content = (folder / file).read_bytes()
        assert not found(
            b"".join(plaintext.ljust(-(-len(plaintext) // 8) * 8, b"\0") for plaintext in plaintexts), content
        ), file
        for name in (b"exp_avg", b"0.weight", b"param_groups", b"mt19937"):
            assert name not in content


def test_equal_saves_and_records_do_not_look_alike(folder: Path) -> None:
    key = Key.generate()
    images, labels = np.zeros((50, 100), np.uint8), np.zeros(50, np.uint8)
    seal_dataset(images, labels, key, folder / "data.sealed")
    training = Training(folder / "job.pool", key, width=40)
    SealedDataset(training.pool, key, folder / "data.sealed")
    for step in range(1, 5):
        training.mirror.save(step)
    extents = [extent for _, _, some in training.pool.core.entries() for extent in some]
    training.close()
    pool = (folder / "job.pool").read_bytes()
    sealed = b"".join(pool[offset : offset + length] for offset, length in extents)
    blocks = [sealed[at : at + 16] for at in range(0, len(sealed) - 15, 16)]
    assert len(set(blocks)) == len(blocks)
