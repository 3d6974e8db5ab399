"""JAX: trees come back bit for bit, and a killed example goes on as if nothing had happened."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import Example, check_resumes_exactly
from plinius import Key, Pool
from plinius.errors import ConfigError, PoolError
from plinius.mirror import ExactnessWarning, RollbackWarning

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
jnp = jax.numpy
np = pytest.importorskip("numpy")
frameworks = pytest.importorskip("plinius.frameworks.jax")

NARROW = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4", "float4_e2m1fn")
WIDE = ("bool", "int8", "uint16", "int32", "uint32", "float32", "complex64")


@pytest.fixture
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(folder / "jax.pool") as opened:
        yield opened


@pytest.fixture
def secret() -> Key:
    return Key.generate()


def mirror(pool: Pool, secret: Key) -> Any:
    return frameworks.JaxMirror(pool, secret, name="tree")


def round_trip(pool: Pool, secret: Key, tree: Any, template: Any) -> Any:
    mirror(pool, secret).save(3, tree)
    step, restored = mirror(pool, secret).restore(template)
    assert step == 3
    return restored


def content(leaf: Any) -> Any:
    """Everything that tells two leaves apart."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "key", str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    if isinstance(leaf, jax.Array):
        return "array", str(leaf.dtype), leaf.shape, leaf.weak_type, leaf.committed, np.asarray(leaf).tobytes()
    return type(leaf), np.asarray(leaf).dtype, np.asarray(leaf).tobytes()


def everything(seed: int) -> dict[str, Any]:
    """A tree with every kind of leaf; another seed gives other values of the same shapes and dtypes."""
    values = np.random.default_rng(seed).integers(0, 2**8, (3, 5), np.uint8)
    return {
        **{name: jnp.asarray(values % 7).astype(name) for name in (*NARROW, *WIDE)},
        "special": jnp.asarray([-0.0, np.nan, np.inf], jnp.bfloat16) * (1 if seed else 2),
        "keys": {impl: jax.random.key(seed, impl=impl) for impl in ("threefry2x32", "rbg", "unsafe_rbg")},
        "many keys": jax.random.split(jax.random.key(seed), 4),
        "old key": jax.random.PRNGKey(seed),
        "weak": (jnp.asarray(seed + 0.5), jnp.full((2,), seed), jnp.asarray(seed + 1j)),
        "committed": jax.device_put(jnp.ones(2) * seed, jax.devices()[0]),
        "empty": jnp.zeros((0, 2)),
        "numpy": [np.arange(3) + seed, np.asfortranarray(np.ones((2, 3)) * seed), np.float32(seed)],
        "numbers": (seed + (1 << 40), seed / 3, True, complex(seed)),
        "nothing": None,
    }


def test_everything_comes_back_bit_for_bit(pool: Pool, secret: Key) -> None:
    saved = everything(1)
    restored = round_trip(pool, secret, saved, everything(0))
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    assert list(map(content, jax.tree.leaves(restored))) == list(map(content, jax.tree.leaves(saved)))
    assert content(restored["weak"][0] + jnp.bfloat16(1)) == content(saved["weak"][0] + jnp.bfloat16(1))


def test_optimizer_state_and_abstract_templates(pool: Pool, secret: Key) -> None:
    params = {"w": jnp.ones((2, 3), jnp.bfloat16)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10)))
    state = optimizer.update({"w": jnp.full((2, 3), 0.3, jnp.bfloat16)}, optimizer.init(params), params)[1]
    tree = {"state": state, "key": jax.random.key(4)}
    restored = round_trip(pool, secret, tree, jax.eval_shape(lambda: tree))
    assert type(restored["state"][1][0]).__name__ == "ScaleByAdamState"
    assert list(map(content, jax.tree.leaves(restored))) == list(map(content, jax.tree.leaves(tree)))


def test_a_number_that_became_an_array_stays_one(pool: Pool, secret: Key) -> None:
    step = jax.jit(lambda count: count + 1)(0)
    assert content(round_trip(pool, secret, {"step": step}, {"step": 0})["step"]) == content(step)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"a": jnp.ones(2)}, r"\['b'\]: missing now"),
        ({"a": jnp.ones(2), "b": jnp.ones(1), "c": 1}, r"\['c'\]: unexpected now"),
        ({"a": jnp.ones(3), "b": jnp.ones(1)}, r"\['a'\]: shape \[2\] then, \[3\] now"),
        ({"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(1)}, r"\['a'\]: dtype float32 then, bfloat16 now"),
        ({"a": jnp.ones(2), "b": jax.random.key(0)}, r"\['b'\]: shape \[1\] then, \[\] now"),
    ],
)
def test_another_tree_is_refused_and_can_be_corrected(pool: Pool, secret: Key, template: Any, message: str) -> None:
    tree = {"a": jnp.arange(2.0), "b": jnp.ones(1)}
    mirror(pool, secret).save(1, tree)
    second = mirror(pool, secret)
    with pytest.raises(ConfigError, match=message):
        second.restore(template)
    with pytest.raises(PoolError):
        second.save(2, template)
    assert content(second.restore(tree)[1]["a"]) == content(tree["a"])
    second.save(2, tree)


def test_what_is_no_array_is_refused_with_its_path(pool: Pool, secret: Key) -> None:
    for leaf in ("text", object(), np.array([object()]), jax.ShapeDtypeStruct((2,), jnp.float32)):
        with pytest.raises(ConfigError, match=r"\['a'\]\[1\]: "):
            mirror(pool, secret).save(1, {"a": [1, leaf]})


def test_nothing_saved_and_nothing_overwritten(pool: Pool, secret: Key) -> None:
    assert mirror(pool, secret).restore({"a": 1}) is None
    mirror(pool, secret).save(1, {"a": 1})
    with pytest.raises(PoolError, match="not restored here"):
        mirror(pool, secret).save(2, {"a": 1})


def test_a_step_that_donates_its_buffers(pool: Pool, secret: Key) -> None:
    step = jax.jit(lambda x: x * 1.5, donate_argnums=0)
    one, value, expected = mirror(pool, secret), jnp.ones(1000), np.ones(1000, np.float32)
    for done in range(1, 6):
        value, expected = step(value), expected * np.float32(1.5)
        one.save(done, value)
        restored = mirror(pool, secret).restore(value)[1]
        assert np.asarray(restored).tobytes() == expected.tobytes()


def test_another_environment_is_named(pool: Pool, secret: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror(pool, secret).save(1, {"a": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExactnessWarning)
        warnings.simplefilter("ignore", RollbackWarning)
        mirror(pool, secret).restore({"a": 1})
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.warns(ExactnessWarning, match="XLA_FLAGS"):
        mirror(pool, secret).restore({"a": 1})


def test_the_example_resumes_exactly(folder: Path, key: Path) -> None:
    check_resumes_exactly(Example("jax_mlp.py", folder, key, steps=150), kills=(3, 4, 5))
