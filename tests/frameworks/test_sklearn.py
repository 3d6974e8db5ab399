"""scikit-learn: every attribute comes back bit for bit, or the estimator is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import Example, check_resumes_exactly
from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError, PoolError

pytestmark = pytest.mark.filterwarnings(
    "ignore::plinius.mirror.RollbackWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

pytest.importorskip("sklearn")
from plinius.frameworks.sklearn import Estimator  # noqa: E402
from sklearn.cluster import Birch, MiniBatchKMeans  # noqa: E402
from sklearn.decomposition import (  # noqa: E402
    IncrementalPCA,
    LatentDirichletAllocation,
    MiniBatchDictionaryLearning,
    MiniBatchNMF,
)
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDOneClassSVM, SGDRegressor  # noqa: E402
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB  # noqa: E402
from sklearn.neural_network import BernoulliRBM, MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler  # noqa: E402

NUMBERS = np.random.default_rng(0).normal(size=(6, 24, 5))
COUNTS = np.random.default_rng(0).integers(0, 3, (6, 24, 5))
THREE = np.random.default_rng(1).integers(0, 3, (6, 24))

CLASSIFIERS = {
    "SGD": lambda: SGDClassifier(random_state=1),
    "SGD, log loss": lambda: SGDClassifier(loss="log_loss", penalty="l1"),
    "SGD, averaged": lambda: SGDClassifier(loss="modified_huber", average=3, random_state=np.random.RandomState(1)),
    "SGD, weighted": lambda: SGDClassifier(class_weight={0: 1.0, 1: 2.0, 2: 0.5}),
    "Perceptron": Perceptron,
    "MLP": lambda: MLPClassifier((4,), random_state=1),
    "MLP, SGD": lambda: MLPClassifier((4, 3), solver="sgd", learning_rate="invscaling"),
    "MLP, one generator": lambda: MLPClassifier((4,), random_state=np.random.RandomState(1)),
    "GaussianNB": GaussianNB,
    "BernoulliNB": BernoulliNB,
    "MultinomialNB": MultinomialNB,
    "ComplementNB": ComplementNB,
    "CategoricalNB": lambda: CategoricalNB(min_categories=3),
}
OTHERS = {
    "SGDRegressor": lambda: SGDRegressor(average=True),
    "MLPRegressor": lambda: MLPRegressor(hidden_layer_sizes=(4,)),
    "SGDOneClassSVM": SGDOneClassSVM,
    "MiniBatchKMeans": lambda: MiniBatchKMeans(3, random_state=1),
    "MiniBatchKMeans, global": lambda: MiniBatchKMeans(3, reassignment_ratio=0.5),
    "BernoulliRBM": lambda: BernoulliRBM(n_components=3),
    "IncrementalPCA": lambda: IncrementalPCA(3),
    "MiniBatchDictionaryLearning": lambda: MiniBatchDictionaryLearning(3),
    "MiniBatchNMF": lambda: MiniBatchNMF(2),
    "LatentDirichletAllocation": lambda: LatentDirichletAllocation(2),
    "StandardScaler": StandardScaler,
    "MinMaxScaler": MinMaxScaler,
    "MaxAbsScaler": MaxAbsScaler,
}


@pytest.fixture
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(folder / "sklearn.pool") as opened:
        yield opened


@pytest.fixture
def secret() -> Key:
    return Key.generate()


def content(value: Any) -> Any:
    """Everything that tells two values apart."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value.shape, [content(item) for item in value.flat]
    if isinstance(value, (np.ndarray, np.generic)):
        return type(value), value.dtype.str, value.shape, value.strides, value.tobytes()
    if isinstance(value, dict):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [content(item) for item in value]
    if isinstance(value, np.random.RandomState):
        return value is np.random.mtrand._rand, content(value.get_state(legacy=False))
    return (type(value), content(vars(value))) if hasattr(value, "__dict__") else value


def state_of(estimator: Any) -> Any:
    return content({name: value for name, value in vars(estimator).items() if name != "_loss_function_"})


def learn(estimator: Any, step: int, labels: np.ndarray = THREE) -> None:
    kind = type(estimator).__name__
    inputs = COUNTS[step] if kind.endswith(("NB", "NMF", "Allocation")) and kind != "GaussianNB" else NUMBERS[step]
    if kind.endswith("Regressor"):
        estimator.partial_fit(inputs, inputs.sum(1))
    elif hasattr(estimator, "predict") and not kind.startswith(("MiniBatch", "SGDOne", "Birch")):
        estimator.partial_fit(inputs, labels[step], classes=np.unique(labels))
    else:
        estimator.partial_fit(inputs)


def resume(pool: Pool, secret: Key, make: Any, labels: np.ndarray = THREE) -> tuple[Any, Any]:
    """Returns an estimator that was trained in one go, and one that was mirrored on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(1)
        whole = make()
        with Mirror(pool, secret, name="model", model=Estimator(whole)) as mirror:
            for step in range(6):
                learn(whole, step, labels)
                if step < 3:
                    mirror.save(step + 1)
            state = state_of(whole)
        np.random.seed(2)
        resumed = make()
        with Mirror(pool, secret, name="model", model=Estimator(resumed)) as mirror:
            assert mirror.restore() == 3
            for step in range(3, 6):
                learn(resumed, step, labels)
            assert state_of(resumed) == state
    return whole, resumed


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(pool: Pool, secret: Key, name: str) -> None:
    whole, resumed = resume(pool, secret, CLASSIFIERS[name])
    inputs = COUNTS[0] if name.endswith("NB") and name != "GaussianNB" else NUMBERS[0]
    assert content(whole.predict(inputs)) == content(resumed.predict(inputs))


@pytest.mark.parametrize("name", OTHERS)
def test_others(pool: Pool, secret: Key, name: str) -> None:
    resume(pool, secret, OTHERS[name])


@pytest.mark.parametrize("dtype", [object, "U5"])
def test_labels_that_are_words(pool: Pool, secret: Key, dtype: Any) -> None:
    words = np.array(["one", "three", "two"]).astype(dtype)[THREE]
    whole, resumed = resume(pool, secret, SGDClassifier, words)
    assert content(whole.predict(NUMBERS[0])) == content(resumed.predict(NUMBERS[0]))


def test_a_generator_that_is_shared_stays_shared(pool: Pool, secret: Key) -> None:
    model = CLASSIFIERS["MLP, one generator"]()
    learn(model, 0)
    Mirror(pool, secret, name="model", model=Estimator(model)).save(1)
    mine = np.random.RandomState(7)
    other = MLPClassifier(random_state=mine)
    Mirror(pool, secret, name="model", model=Estimator(other)).restore()
    assert other._random_state is other.random_state is mine
    assert state_of(other) == state_of(model)


def test_saved_parameters_replace_others(pool: Pool, secret: Key) -> None:
    model = SGDClassifier(alpha=0.5)
    learn(model, 0)
    Mirror(pool, secret, name="model", model=Estimator(model)).save(1)
    other = SGDClassifier(alpha=0.1, average=True)
    learn(other, 1)
    assert hasattr(other, "_average_coef")  # which the saved one has not
    Mirror(pool, secret, name="model", model=Estimator(other)).restore()
    assert state_of(other) == state_of(model)


def test_another_class_is_refused_unchanged(pool: Pool, secret: Key) -> None:
    Mirror(pool, secret, name="model", model=Estimator(SGDClassifier())).save(1)
    other = Perceptron()
    before = state_of(other)
    mirror = Mirror(pool, secret, name="model", model=Estimator(other))
    with pytest.raises(ConfigError, match="holds a SGDClassifier, this is a Perceptron"):
        mirror.restore()
    assert state_of(other) == before
    with pytest.raises(PoolError):
        mirror.save(2)


def test_what_would_not_come_back_is_refused_by_name(pool: Pool, secret: Key) -> None:
    tree = Birch(n_clusters=2)
    learn(tree, 0)
    sparse = SGDClassifier()
    learn(sparse, 0)
    sparse.sparsify()
    impostor = SGDClassifier()
    impostor._loss_function_ = impostor.extra = object()
    for model, message in (
        (tree, r"Birch\.root_: a _CFNode"),
        (sparse, r"SGDClassifier\.coef_: a csr_"),
        (impostor, r"SGDClassifier\._loss_function_: a object"),
    ):
        with pytest.raises(ConfigError, match=message):
            Mirror(pool, secret, name="model", model=Estimator(model)).save(1)
    with pytest.raises(ConfigError, match="has no partial_fit"):
        Estimator(LogisticRegression())


@pytest.mark.parametrize("script", ["sklearn_partial_fit.py", "numpy_loop.py"])
def test_the_examples_resume_exactly(script: str, folder: Path, key: Path) -> None:
    check_resumes_exactly(Example(script, folder, key, steps=300), kills=(3, 4, 5))
