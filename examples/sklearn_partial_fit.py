"""scikit-learn: a classifier trained by ``partial_fit``, mirrored after every batch."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import plinius
from plinius.frameworks.sklearn import Estimator
from sklearn.linear_model import SGDClassifier

BATCH = 32


def main() -> None:
    """Trains for so many steps, and writes what the training came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--pool", "--key", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    inputs = np.random.default_rng(1).normal(size=(2048, 20))
    labels = (np.sin(inputs).sum(1) > 0).astype(int) + (inputs[:, 0] > 1)
    model = SGDClassifier(loss="log_loss", average=True, random_state=np.random.RandomState(1))

    with plinius.Pool(options.pool) as pool:
        key = plinius.Key.load(options.key)
        mirror = plinius.Mirror(pool, key, name="classifier", model=Estimator(model))
        for step in range(mirror.restore() or 0, options.steps):
            chosen = plinius.batch_indices(len(inputs), seed=1, step=step, batch=BATCH)
            model.partial_fit(inputs[chosen], labels[chosen], classes=[0, 1, 2])
            mirror.save(step + 1)
            print(f"step {step + 1}", flush=True)

    random_state = model.random_state.get_state()[1]
    options.output.write_bytes(b"".join(part.tobytes() for part in (model.coef_, model.intercept_, random_state)))


if __name__ == "__main__":
    main()
