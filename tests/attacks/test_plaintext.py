"""Looking for secrets in the pool: weights, moments, images, labels and key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from plinius import Key, SealedDataset, seal_dataset
from small_training import Training


def found(needle: bytes, haystack: bytes, window: int = 8) -> list[int]:
    """Where any window of the needle occurs; windows of equal bytes tell nothing."""
    windows = {needle[at : at + window] for at in range(0, len(needle) - window + 1, window)}
    return [at for one in windows if len(set(one)) > 3 and (at := haystack.find(one)) >= 0]


def test_the_search_finds_what_is_there() -> None:
    needle = bytes(range(64))
    assert found(needle, b"." * 100 + needle[16:40] + b"." * 100)
    assert not found(needle, b"." * 100)


def test_a_pool_holds_no_plaintext(folder: Path) -> None:
    key = Key.generate()
    key.save(folder / "job.key")
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 12, 12), np.uint8)
    labels = np.random.default_rng(1).random((200, 2))
    seal_dataset(images, labels, key, folder / "data.sealed")
    training = Training(folder / "job.pool", key, width=40)
    data = SealedDataset(training.pool, key, folder / "data.sealed")
    plaintexts = {"images": images.tobytes(), "labels": labels.tobytes(), "batch": data.batch(range(200))[0].tobytes()}
    for step in range(1, 6):
        training.train(step, step)
        plaintexts[f"weights of step {step}"] = training.weights()
        moments = [state["exp_avg"].numpy().tobytes() for state in training.optimizer.state.values()]
        plaintexts[f"moments of step {step}"] = b"".join(moments)
    training.close()
    secret = (folder / "job.key").read_text().split()[-1]
    plaintexts |= {"key": bytes.fromhex(secret), "key in hexadecimal": secret.encode()}
    for file in ("job.pool", "data.sealed"):
        content = (folder / file).read_bytes()
        for what, plaintext in plaintexts.items():
            assert not found(plaintext, content), f"{what} in {file}"
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
