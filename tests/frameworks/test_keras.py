"""Keras: every variable comes back bit for bit, in the middle of an epoch too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import Example, check_resumes_exactly
from plinius import Key, Pool, batch_indices
from plinius.errors import ConfigError, PoolError

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
frameworks = pytest.importorskip("plinius.frameworks.keras")

BATCH, STEPS = 4, 4
INPUTS = np.random.default_rng(0).normal(size=(BATCH * STEPS, 3)).astype(np.float32)


class KilledError(Exception):
    """Stands for the end of the process."""


class KilledAt(keras.callbacks.Callback):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.left -= self.model.steps_per_execution
        if self.left < 0:
            raise KilledError


@pytest.fixture
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(folder / "keras.pool") as opened:
        yield opened


@pytest.fixture
def secret() -> Key:
    return Key.generate()


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = batch_indices(len(INPUTS), 1, step, BATCH)
    return INPUTS[chosen], INPUTS[chosen].sum(1)


def network(optimizer: Any = "adam", width: int = 5, dtype: str = "float32", **options: Any) -> Any:
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(width, dtype=dtype),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.GaussianNoise(0.1),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer() if callable(optimizer) else optimizer, "mse", **options)
    return model


def content(model: Any) -> dict[str, Any]:
    return {
        path: (str(variable.dtype), keras.ops.convert_to_numpy(variable).tobytes())
        for path, variable in frameworks._named(model).items()
    }


def train(
    pool: Pool,
    secret: Key,
    model: Any,
    name: str,
    *,
    until: int = 1000,
    data: Any = batch,
    every: int = 1,
    others: Any = (),
) -> Any:
    mirror = frameworks.MirrorCallback(pool, secret, name=name, every=every)
    mirror.restore(model)
    dying = KilledAt(until - mirror.step)
    try:
        frameworks.fit(
            model, data, mirror=mirror, steps_per_epoch=STEPS, epochs=3, callbacks=[dying, *others], verbose=0
        )
    except KilledError:
        return None
    return content(model)


def check_resumes(pool: Pool, secret: Key, make: Any, kills: tuple[int, ...] = (6,), **options: Any) -> None:
    whole = train(pool, secret, make(), "whole", **options)
    for until in kills:
        assert train(pool, secret, make(), "broken", until=until, **options) is None
    assert train(pool, secret, make(), "broken", **options) == whole


def test_it_goes_on_in_the_middle_of_an_epoch_and_at_its_end(pool: Pool, secret: Key) -> None:
    check_resumes(pool, secret, network, kills=(2, 6, 8))
    assert train(pool, secret, network(), "broken") == train(pool, secret, network(), "whole")  # both were done


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)),
        lambda: keras.optimizers.AdamW(0.01, gradient_accumulation_steps=3),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(0.01)),
    ],
    ids=["SGD", "schedule", "accumulation", "loss scale"],
)
def test_optimizers(pool: Pool, secret: Key, optimizer: Any) -> None:
    check_resumes(pool, secret, lambda: network(optimizer))


def test_bfloat16(pool: Pool, secret: Key) -> None:
    check_resumes(pool, secret, lambda: network(dtype="bfloat16"))


def test_what_depends_on_the_epoch(pool: Pool, secret: Key) -> None:
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))
    check_resumes(pool, secret, lambda: network("sgd"), others=[rates])


def test_several_steps_an_execution(pool: Pool, secret: Key) -> None:
    check_resumes(pool, secret, lambda: network(steps_per_execution=2))
    with pytest.raises(ConfigError, match="no multiple of steps_per_execution=3"):
        train(pool, secret, network(steps_per_execution=3), "broken")


def test_a_dataset_of_tensorflow(pool: Pool, secret: Key) -> None:
    def at(step: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(INPUTS)), seed=tf.stack([1, step // STEPS]))
        chosen = tf.gather(INPUTS, order[step % STEPS * BATCH :][:BATCH])
        return chosen, tf.reduce_sum(chosen, 1)

    check_resumes(pool, secret, network, data=tf.data.Dataset.range(1000).map(at))


def test_every_other_batch_and_the_last(pool: Pool, secret: Key) -> None:
    whole = train(pool, secret, network(), "whole", every=5)
    mirror = frameworks.MirrorCallback(pool, secret, name="whole")
    assert mirror.latest_step() == 3 * STEPS
    train(pool, secret, network(), "broken", until=8, every=5)
    assert frameworks.MirrorCallback(pool, secret, name="broken").latest_step() == 5
    assert train(pool, secret, network(), "broken", every=5) == whole


def test_plain_fit_by_whole_epochs(pool: Pool, secret: Key) -> None:
    model = network()
    mirror = frameworks.MirrorCallback(pool, secret, name="plain")
    assert mirror.restore(model) is None
    model.fit(INPUTS, INPUTS.sum(1), batch_size=BATCH, epochs=2, shuffle=False, callbacks=[mirror], verbose=0)
    again = network()
    assert frameworks.MirrorCallback(pool, secret, name="plain").restore(again) == 2 * STEPS
    assert content(again) == content(model)


def test_another_model_is_refused_unchanged(pool: Pool, secret: Key) -> None:
    train(pool, secret, network(), "net", until=2)
    for model, message in (
        (network(width=6), r"model/sequential/dense/kernel: shape \[3, 5\] then, \[3, 6\] now"),
        (network(dtype="bfloat16"), "model/sequential/dense/kernel: dtype float32 then, bfloat16 now"),
        (network("sgd"), "optimizer/adam/iteration: missing now"),
    ):
        mirror = frameworks.MirrorCallback(pool, secret, name="net")
        frameworks._ready(model)
        before = content(model)
        with pytest.raises(ConfigError, match=message):
            mirror.restore(model)
        assert content(model) == before
        with pytest.raises(PoolError):
            frameworks.fit(model, batch, mirror=mirror, steps_per_epoch=STEPS, epochs=1, verbose=0)


def test_what_is_not_ready_or_not_exact_is_refused(pool: Pool, secret: Key) -> None:
    mirror = frameworks.MirrorCallback(pool, secret, name="net")
    with pytest.raises(ConfigError, match="no variables yet"):
        mirror.restore(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ConfigError, match="use_ema"):
        train(pool, secret, network(lambda: keras.optimizers.Adam(use_ema=True)), "net")


def test_what_was_not_restored_is_not_overwritten(pool: Pool, secret: Key) -> None:
    train(pool, secret, network(), "net", until=2)
    mirror = frameworks.MirrorCallback(pool, secret, name="net")
    with pytest.raises(PoolError, match="not restored here"):
        network().fit(INPUTS, INPUTS.sum(1), batch_size=BATCH, callbacks=[mirror], verbose=0)


def test_the_example_resumes_exactly(folder: Path, key: Path) -> None:
    check_resumes_exactly(Example("keras_fit.py", folder, key, steps=120), kills=(3, 5))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_example_resumes_exactly_on_other_backends(
    backend: str, folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(backend)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    check_resumes_exactly(Example("keras_fit.py", folder, key, steps=120), kills=(4,))
