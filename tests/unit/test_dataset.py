"""Sealed data sets: packed, loaded once, opened in batches."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plinius import Key, Pool, SealedDataset, batch_indices, seal_dataset
from plinius.dataset import HEADER_BYTES, Header
from plinius.errors import ConfigError, IntegrityError, PoolFull

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"]
SHAPES = [((7,), ()), ((1, 4, 5), ()), ((3, 2, 2, 2), (2,)), ((), (2, 3))]


def arrays(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    return random.integers(0, 256, (count, 1, 5, 5), np.uint8), random.integers(0, 10, count, np.uint8)


@pytest.fixture
def sealed(folder: Path, key: Key) -> Path:
    seal_dataset(*arrays(), key, folder / "data.sealed")
    return folder / "data.sealed"


@pytest.mark.parametrize("image_dtype", DTYPES)
@pytest.mark.parametrize(("image_shape", "label_shape"), SHAPES)
def test_all_types_and_shapes_come_back(
    folder: Path, key: Key, image_dtype: str, image_shape: tuple[int, ...], label_shape: tuple[int, ...]
) -> None:
    random = np.random.default_rng(1)
    images = (random.random((9, *image_shape)) * 100).astype(image_dtype)
    for label_dtype in ("uint8", "int64", "float32"):
        labels = (random.random((9, *label_shape)) * 100).astype(label_dtype)
        path = folder / f"{label_dtype}.sealed"
        seal_dataset(images, labels, key, path)
        with Pool(folder / f"{label_dtype}.pool") as pool:
            got_images, got_labels = SealedDataset(pool, key, path).batch(range(9))
        expected = images.astype(np.float32) / np.float32(255) if image_dtype == "uint8" else images
        assert np.array_equal(got_images, expected)
        assert got_images.dtype == expected.dtype
        assert np.array_equal(got_labels, labels)
        assert got_labels.dtype == (np.float32 if label_dtype == "float32" else np.int64)


@pytest.mark.parametrize("dtype", [">i4", ">f4", ">u2", ">f8"])
def test_arrays_in_the_other_byte_order_come_back(folder: Path, key: Key, dtype: str) -> None:
    images, labels = np.arange(12).reshape(4, 3).astype(dtype), np.arange(4).astype(">i4")
    seal_dataset(images, labels, key, folder / "data.sealed")
    with Pool(folder / "pool") as pool:
        got_images, got_labels = SealedDataset(pool, key, folder / "data.sealed").batch(range(4))
    assert np.array_equal(got_images, images)
    assert np.array_equal(got_labels, labels)


def test_arrays_that_are_not_contiguous_come_back(folder: Path, key: Key) -> None:
    images, labels = arrays(40)
    seal_dataset(images[::2, :, ::-1], labels[::-2], key, folder / "data.sealed")
    with Pool(folder / "pool") as pool:
        got_images, got_labels = SealedDataset(pool, key, folder / "data.sealed").batch(range(20))
    assert np.array_equal(got_images, images[::2, :, ::-1].astype(np.float32) / np.float32(255))
    assert np.array_equal(got_labels, labels[::-2])


def test_a_batch_is_in_the_order_that_was_asked_for(sealed: Path, folder: Path, key: Key) -> None:
    images, labels = arrays()
    order = [3, 19, 0, 3, 7]
    with Pool(folder / "pool") as pool:
        data = SealedDataset(pool, key, sealed)
        got_images, got_labels = data.batch(np.array(order))
        assert np.array_equal(got_images, images[order].astype(np.float32) / np.float32(255))
        assert np.array_equal(got_labels, labels[order])
        assert len(data) == 20
        assert data[-1][1] == data[19][1] == labels[19]
        assert data.batch([])[0].shape == (0, 1, 5, 5)
        for outside in (20, -21):
            with pytest.raises(IndexError, match="there is no record"):
                data[outside]
        for outside in (20, -1):
            with pytest.raises(IndexError, match="there is no record"):
                data.batch([0, outside])


@pytest.mark.parametrize("indices", [[True, False], [1.7], ["1"], [None]])
def test_indices_are_whole_numbers_and_no_mask(sealed: Path, folder: Path, key: Key, indices: list[Any]) -> None:
    with Pool(folder / "pool") as pool:
        data = SealedDataset(pool, key, sealed)
        with pytest.raises(TypeError):
            data.batch(np.array(indices))
        with pytest.raises(IndexError, match="no record -1: the data set has 20"):
            data.batch([0, -1, -2])


def test_a_data_set_needs_a_pool_and_a_key(sealed: Path, folder: Path, key: Key) -> None:
    with Pool(folder / "pool") as pool, pytest.raises(TypeError, match="needs an open pool and a key"):
        SealedDataset(pool, "job.key", sealed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"batch": 0}, {"batch": 2.0}, {"step": -1}, {"step": 0.5}, {"seed": -1}, {"seed": 1 << 64}],
    ids=str,
)
def test_positions_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        batch_indices(**{"count": 10, "seed": 1, "step": 0, "batch": 2, **wrong})


def test_many_records_span_several_blocks(folder: Path, key: Key) -> None:
    images = np.random.default_rng(0).random((5000, 300)).astype(np.float32)
    labels = np.arange(5000)
    seen: list[tuple[int, int]] = []
    seal_dataset(images, labels, key, folder / "data.sealed", progress=lambda *done: seen.append(done))
    with Pool(folder / "pool") as pool:
        loaded: list[tuple[int, int]] = []
        data = SealedDataset(pool, key, folder / "data.sealed", progress=lambda *done: loaded.append(done))
        assert np.array_equal(data.batch(labels)[0], images)
    assert seen == loaded
    assert len(seen) > 1
    assert seen[-1] == (5000, 5000)


def test_a_data_set_is_loaded_once_and_then_there(sealed: Path, folder: Path, key: Key) -> None:
    loads: list[tuple[int, int]] = []
    with Pool(folder / "pool") as pool:
        expected = SealedDataset(pool, key, sealed, progress=lambda *done: loads.append(done)).batch(range(20))
        size = pool.bytes
    with Pool(folder / "pool") as pool:
        again = SealedDataset(pool, key, sealed, progress=lambda *done: loads.append(done))
        assert np.array_equal(again.batch(range(20))[0], expected[0])
        assert pool.bytes == size
    assert loads == [(20, 20)]


def test_a_load_that_is_cut_leaves_nothing(sealed: Path, folder: Path, key: Key) -> None:
    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with Pool(folder / "pool") as pool:
        with pytest.raises(KeyboardInterrupt):
            SealedDataset(pool, key, sealed, progress=stop)
        assert pool.core.entries() == []
        SealedDataset(pool, key, sealed)


def test_a_descriptor_stays_open(sealed: Path, folder: Path, key: Key) -> None:
    descriptor = os.open(sealed, os.O_RDONLY)
    try:
        with Pool(folder / "pool") as pool:
            for _ in range(2):
                assert len(SealedDataset(pool, key, descriptor)) == 20
        os.fstat(descriptor)
    finally:
        os.close(descriptor)


def test_forked_workers_of_a_loader_see_the_same(sealed: Path, folder: Path, key: Key) -> None:
    images, labels = arrays()
    with Pool(folder / "pool") as pool:
        data = SealedDataset(pool, key, sealed)
        loader = torch.utils.data.DataLoader(data, batch_size=6, num_workers=2, multiprocessing_context="fork")
        batches = list(loader)
    assert np.array_equal(torch.cat([batch for batch, _ in batches]).numpy(), images.astype(np.float32) / 255)
    assert torch.cat([batch for _, batch in batches]).tolist() == labels.tolist()


def test_a_data_set_is_not_pickled(sealed: Path, folder: Path, key: Key) -> None:
    with Pool(folder / "pool") as pool, pytest.raises(TypeError, match="multiprocessing_context='fork'"):
        pickle.dumps(SealedDataset(pool, key, sealed))


def test_what_is_no_data_set_is_named(tmp_path: Path, folder: Path, key: Key) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"x" * 1000)
    os.mkfifo(tmp_path / "pipe")
    wrong = {"missing": "No such file", "empty": "not a sealed data set", "other": "plinius seal", "": "directory"}
    with Pool(folder / "pool") as pool:
        for name, message in wrong.items():
            with pytest.raises(ConfigError, match=message) as caught:
                SealedDataset(pool, key, tmp_path / name)
            assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.timeout(10)
def test_a_named_pipe_does_not_hang(tmp_path: Path, folder: Path, key: Key) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Pool(folder / "pool") as pool, pytest.raises(ConfigError, match="pipe: cannot read"):
        SealedDataset(pool, key, tmp_path / "pipe")


def test_a_pool_without_room_is_full_and_holds_nothing(sealed: Path, folder: Path, key: Key) -> None:
    with Pool(folder / "pool", max_bytes=(4 << 20) + 12288) as pool:
        with pytest.raises(PoolFull):
            SealedDataset(pool, key, sealed)
        assert pool.core.entries() == []


def test_a_file_is_never_overwritten_and_none_is_left_in_parts(sealed: Path, folder: Path, key: Key) -> None:
    before = sealed.read_bytes()
    with pytest.raises(ConfigError, match="this file exists"):
        seal_dataset(*arrays(), key, sealed)
    with pytest.raises(ConfigError, match="cannot write"):
        seal_dataset(*arrays(), key, folder / "missing" / "data.sealed")

    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal_dataset(*arrays(), key, folder / "cut.sealed", progress=stop)
    assert sealed.read_bytes() == before
    assert os.listdir(folder) == ["data.sealed"]  # noqa: PTH208


def test_a_header_of_more_records_than_one_key_seals_is_refused(sealed: Path) -> None:
    header = Header.parse(sealed.read_bytes()[:HEADER_BYTES], "data")
    most = replace(header, count=(1 << 32) - 1)
    assert Header.parse(most.encode(), "data") == most
    for count in (0, 1 << 32):
        with pytest.raises(ConfigError, match=f"not {count}"):
            Header.parse(replace(header, count=count).encode(), "data")


def test_arrays_that_do_not_fit_are_refused(folder: Path, key: Key) -> None:
    images, labels = arrays()
    wrong = [
        (images[:5], labels, "5 images and 20 labels"),
        (images[:0], labels[:0], "not 0"),
        (images.astype(complex), labels, "complex128 cannot be sealed"),
        (images, labels.astype(bool), "bool cannot be sealed"),
        (images.reshape(20, 1, 1, 1, 5, 5), labels, "at most four"),
    ]
    for some_images, some_labels, message in wrong:
        with pytest.raises(ConfigError, match=message):
            seal_dataset(some_images, some_labels, key, folder / "data.sealed")
    assert os.listdir(folder) == []  # noqa: PTH208


def test_another_key_is_named(sealed: Path, folder: Path, key: Key) -> None:
    other = Key.generate()
    with Pool(folder / "pool") as pool, pytest.raises(IntegrityError, match=f"key {key.id}, this is key {other.id}"):
        SealedDataset(pool, other, sealed)


@pytest.mark.parametrize(("count", "batch"), [(10, 10), (10, 3), (7, 20), (1, 1), (100, 32)])
def test_each_epoch_has_every_record_once(count: int, batch: int) -> None:
    steps = 3 * count
    order = np.concatenate([batch_indices(count, 5, step, batch) for step in range(steps)])
    for epoch in range(steps * batch // count):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_a_position_is_one_number() -> None:
    forwards = [batch_indices(1000, 3, step, 64).tolist() for step in range(40)]
    backwards = [batch_indices(1000, 3, step, 64).tolist() for step in reversed(range(40))]
    assert forwards == backwards[::-1]


def test_seeds_and_epochs_shuffle_differently() -> None:
    orders = {tuple(batch_indices(50, seed, step, 50)) for seed in range(5) for step in range(5)}
    assert len(orders) == 25


def test_the_shuffle_is_the_same_for_ever() -> None:
    assert batch_indices(10, 1, 0, 10).tolist() == [6, 0, 7, 9, 4, 1, 8, 5, 2, 3]


def test_empty_labels_and_records_beyond_the_limit_are_refused_before_sealing(folder: Path) -> None:
    key = Key.generate()
    with pytest.raises(ConfigError, match="empty"):
        seal_dataset(np.zeros((5, 3), "u1"), np.zeros((5, 0), "i8"), key, folder / "new")
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, "u1"), (1, 1 << 30), (0, 0))
    with pytest.raises(ConfigError, match="at most"):
        seal_dataset(huge, np.zeros((1, 8), "u1"), key, folder / "new")
    assert not (folder / "new").exists()
