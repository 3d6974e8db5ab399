"""JAX: a small network trained with optax and explicit random keys, mirrored after every step."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plinius
from plinius.frameworks.jax import JaxMirror

BATCH, INPUTS, HIDDEN = 16, 8, 32
OPTIMIZER = optax.adam(0.01)


class Training(NamedTuple):
    """Everything that training goes on from."""

    params: dict[str, jax.Array]
    optimizer: Any
    rng: jax.Array


def start(seed: int) -> Training:
    """The state before the first step."""
    rng, first, second = jax.random.split(jax.random.key(seed), 3)
    params = {
        "hidden": jax.random.normal(first, (INPUTS, HIDDEN), jnp.bfloat16) * 0.3,
        "output": jax.random.normal(second, (HIDDEN,)) * 0.3,
    }
    return Training(params, OPTIMIZER.init(params), rng)


@jax.jit
def train_step(training: Training) -> Training:
    """One step on a batch drawn from the key."""
    rng, drawing, dropping = jax.random.split(training.rng, 3)
    inputs = jax.random.normal(drawing, (BATCH, INPUTS))
    kept = jax.random.bernoulli(dropping, 0.8, (BATCH, HIDDEN))

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        hidden = jnp.where(kept, jax.nn.relu(inputs @ params["hidden"]), 0)
        return jnp.mean((hidden @ params["output"] - jnp.sin(inputs.sum(1))) ** 2)

    updates, optimizer = OPTIMIZER.update(jax.grad(loss)(training.params), training.optimizer)
    return Training(optax.apply_updates(training.params, updates), optimizer, rng)


def main() -> None:
    """Trains for so many steps, and writes what the training came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--pool", "--key", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()

    with plinius.Pool(options.pool) as pool:
        mirror = JaxMirror(pool, plinius.Key.load(options.key), name="mlp")
        training = start(seed=1)
        step, training = mirror.restore(training) or (0, training)
        for done in range(step + 1, options.steps + 1):
            training = train_step(training)
            mirror.save(done, training)
            print(f"step {done}", flush=True)

    plain = training._replace(rng=jax.random.key_data(training.rng))
    options.output.write_bytes(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(plain)))


if __name__ == "__main__":
    main()
