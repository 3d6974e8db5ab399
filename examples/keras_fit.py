"""Keras 3 on TensorFlow: ``fit`` mirrored after every batch, and resumed in the middle of an epoch."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import plinius
from plinius.frameworks.keras import MirrorCallback, fit

BATCH, STEPS_PER_EPOCH = 16, 8


class Reporting(MirrorCallback):
    """Says which step is durable."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Mirrors and reports."""
        super().on_train_batch_end(batch, logs)
        print(f"step {self.step}", flush=True)


def network() -> keras.Model:
    """A small network with moving averages and dropout, ready to be restored."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, 100)), "mse", metrics=["mae"])
    return model


def main() -> None:
    """Trains for so many steps, and writes what the training came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--pool", "--key", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()

    keras.utils.set_random_seed(1)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 (other backends do without)

        tf.config.experimental.enable_op_determinism()

    inputs = np.random.default_rng(1).normal(size=(BATCH * STEPS_PER_EPOCH, 8)).astype(np.float32)
    targets = np.sin(inputs.sum(1))

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = plinius.batch_indices(len(inputs), seed=1, step=step, batch=BATCH)
        return inputs[chosen], targets[chosen]

    with plinius.Pool(options.pool) as pool:
        model = network()
        mirror = Reporting(pool, plinius.Key.load(options.key), name="net")
        mirror.restore(model)
        epochs = options.steps // STEPS_PER_EPOCH
        fit(model, batch, mirror=mirror, steps_per_epoch=STEPS_PER_EPOCH, epochs=epochs, verbose=0)

    variables = [*model.variables, *model.optimizer.variables]
    options.output.write_bytes(b"".join(keras.ops.convert_to_numpy(each).tobytes() for each in variables))


if __name__ == "__main__":
    main()
