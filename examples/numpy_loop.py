"""NumPy alone: logistic regression with momentum, its arrays and its generator mirrored after every step."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import plinius

BATCH = 32


def main() -> None:
    """Trains for so many steps, and writes what the training came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--pool", "--key", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    inputs = np.random.default_rng(1).normal(size=(2048, 20)).astype(np.float32)
    labels = (np.sin(inputs).sum(1) > 0).astype(np.float32)
    weights, velocity = np.zeros(20, np.float32), np.zeros(20, np.float32)
    generator = np.random.default_rng(2)

    with plinius.Pool(options.pool) as pool:
        key = plinius.Key.load(options.key)
        state = {"weights": weights, "velocity": velocity}
        mirror = plinius.Mirror(pool, key, name="regression", state=state, generator=generator)
        for step in range(mirror.restore() or 0, options.steps):
            chosen = generator.integers(len(inputs), size=BATCH)
            predicted = 1 / (1 + np.exp(-inputs[chosen] @ weights))
            velocity *= 0.9  # in place: the mirror holds these very arrays
            velocity += inputs[chosen].T @ (predicted - labels[chosen]) / BATCH
            weights -= 0.1 * velocity
            mirror.save(step + 1)
            print(f"step {step + 1}", flush=True)

    options.output.write_bytes(weights.tobytes() + velocity.tobytes() + generator.bytes(16))


if __name__ == "__main__":
    main()
