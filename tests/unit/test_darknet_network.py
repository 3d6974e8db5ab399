"""Networks: initial weights, single layers against their definition, losses and their gradients."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from plinius.darknet import Network, parse  # noqa: E402
from plinius.darknet import network as network_module  # noqa: E402
from plinius.darknet.activations import activate, activate_fresh  # noqa: E402
from plinius.darknet.normalization import normalize_batch  # noqa: E402
from plinius.darknet.sections import Activation  # noqa: E402
from plinius.errors import ConfigError  # noqa: E402

NET = "[net]\nheight=6\nwidth=6\nchannels=2\n"


def network(body: str, net: str = NET) -> Network:
    return Network(parse((net + body).encode(), "a.cfg"), torch.Generator().manual_seed(1))


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(2))


def test_a_seed_fixes_the_initial_weights() -> None:
    body = "[conv]\nfilters=4\nsize=3\n[connected]\noutput=3\n"
    one, same = network(body), network(body)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    other = Network(one.config, torch.Generator().manual_seed(9))
    assert not torch.equal(one.layers[0].weights, other.layers[0].weights)
    assert not torch.equal(one.layers[1].weights, other.layers[1].weights)


def test_initial_weights_are_spread_as_in_darknet() -> None:
    made = network("[conv]\nfilters=600\nsize=3\ngroups=2\nbatch_normalize=1\n[connected]\noutput=9\n")
    convolutional, connected = made.layers
    assert convolutional.weights.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.03)
    assert convolutional.weights.mean().item() == pytest.approx(0, abs=0.02)
    bound = math.sqrt(2 / (600 * 4 * 4))
    assert bound * 0.999 < connected.weights.max().item() <= bound
    assert -bound <= connected.weights.min().item() < -bound * 0.999
    for tensor, value in [
        (convolutional.biases, 0),
        (convolutional.scales, 1),
        (convolutional.rolling_mean, 0),
        (convolutional.rolling_variance, 0),
    ]:
        assert bool((tensor == value).all())


def test_predictions_are_probabilities() -> None:
    made = network("[connected]\noutput=5\nactivation=linear\n[softmax]").eval()
    found = made(images())
    assert found.shape == (3, 5)
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_batch_normalization_is_that_of_darknet() -> None:
    made = network("[conv]\nfilters=3\nbatch_normalize=1\nactivation=linear\n").train()
    layer = made.layers[0]
    with torch.no_grad():
        layer.scales.copy_(torch.tensor([1.0, 2.0, -1.0]))
        layer.biases.copy_(torch.tensor([0.5, 0.0, 3.0]))
    # The last channel hardly varies: here the epsilons matter.
    with torch.no_grad():
        layer.weights[2] *= 1e-3
    x = torch.nn.functional.conv2d(images(), layer.weights)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=True)

    def normalized(mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        shaped = (1, 3, 1, 1)
        scaled = (x - mean.reshape(shaped)) / (variance.sqrt() + 1e-6).reshape(shaped)
        return (scaled * layer.scales.reshape(shaped) + layer.biases.reshape(shaped)).flatten(1)

    torch.testing.assert_close(made(images()), normalized(mean, variance), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.rolling_mean, 0.01 * mean)
    torch.testing.assert_close(layer.rolling_variance, 0.01 * variance)
    made.eval()
    expected = normalized(0.01 * mean, 0.01 * variance)
    torch.testing.assert_close(made(images()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [1e-3, 1.0])
def test_batch_normalization_sends_back_what_darknet_does(spread: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x = (torch.randn(8, 3, 2, 2, generator=generator) * spread + 0.25).requires_grad_()
    delta = torch.randn(8, 3, 2, 2, generator=generator)
    scales = torch.tensor([1.0, 2.0, -1.0], requires_grad=True)
    biases = torch.zeros(3, requires_grad=True)
    normalize_batch(x, scales, biases, torch.zeros(3), torch.zeros(3)).backward(delta)

    over, shaped, count = (0, 2, 3), (1, 3, 1, 1), 8 * 2 * 2
    centred = x.detach() - x.detach().mean(over, keepdim=True)
    variance = x.detach().var(over, unbiased=True)
    divisor = (variance + 1e-5).sqrt().reshape(shaped)
    scaled = delta * scales.detach().reshape(shaped)
    mean_delta = -scaled.sum(over, keepdim=True) / divisor
    variance_delta = -0.5 * (scaled * centred).sum(over, keepdim=True) / divisor**3
    expected = scaled / divisor + variance_delta * 2 * centred / count + mean_delta / count
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-5 / spread)
    expected = (delta * centred).sum(over) / (variance.sqrt() + 1e-6)
    torch.testing.assert_close(scales.grad, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(biases.grad, delta.sum(over))


def test_a_channel_without_any_variance_trains() -> None:
    made = network("[conv]\nfilters=1\nbatch_normalize=1\n[softmax]\n").train()
    with torch.no_grad():
        made.layers[0].weights.zero_()
    made.loss(images(), torch.tensor([0, 1, 2])).backward()
    assert bool(torch.isfinite(made.layers[0].weights.grad).all())


def test_batch_normalization_of_one_value_is_refused() -> None:
    made = network("[connected]\noutput=3\nbatch_normalize=1\n").train()
    with pytest.raises(ConfigError, match="larger batch"):
        made(images(1))


def test_batchnorm_layer_is_neither_trained_nor_biased() -> None:
    made = network("[batchnorm]\n").train()
    assert list(made.parameters()) == []
    x = images()
    expected = (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(made(x), expected.flatten(1), rtol=1e-4, atol=1e-4)
    made.eval()
    rolling = made.layers[0].rolling_variance.sqrt()[:, None, None] + 1e-6
    expected = (x - made.layers[0].rolling_mean[:, None, None]) / rolling
    torch.testing.assert_close(made(x), expected.flatten(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", Activation)
def test_activations_keep_their_input_and_have_finite_gradients(activation: Activation) -> None:
    x = torch.tensor([-1e4, -200.0, -4.0, -1.0, -0.0, 0.0, 0.5, 1.0, 4.0, 200.0, 1e4], requires_grad=True)
    before = x.detach().clone()
    y = activate(x, activation)
    y.sum().backward()
    assert torch.equal(x.detach(), before)
    assert bool(torch.isfinite(y).all() and torch.isfinite(x.grad).all())
    torch.testing.assert_close(activate_fresh(before, activation), y.detach())


@pytest.mark.parametrize(
    ("activation", "x", "y", "slope"),
    [
        ("lhtan", 0.0, 0.0, 0.001),
        ("lhtan", 1.0, 1.0, 0.001),
        ("leaky", 0.0, 0.0, 0.1),
        ("leaky", -2.0, -0.2, 0.1),
        ("relu", 0.0, 0.0, 0.0),
        ("relie", -1.0, -0.01, 0.01),
        ("ramp", 2.0, 2.2, 1.1),
        ("plse", 4.0, 1.0, 0.125),
        ("plse", 6.0, 1.02, 0.01),
        ("stair", 3.5, 1.5, 1.0),
        ("stair", 2.5, 1.0, 0.0),
        ("stair", 3.0, 1.0, 0.0),
        ("stair", -0.5, -0.5, 1.0),
        ("selu", -1.0, -1.0507 * 1.6732 * (1 - math.exp(-1)), 1.0507 * 1.6732 * math.exp(-1)),
        ("selu", 0.0, 0.0, 1.0507),
        ("hardtan", 1.0, 1.0, 0.0),
        ("loggy", 0.0, 0.0, 0.5),
    ],
)
def test_activations_and_their_slopes(activation: str, x: float, y: float, slope: float) -> None:
    at = torch.tensor(x, requires_grad=True)
    found = activate(at, Activation(activation))
    found.backward()
    assert found.item() == pytest.approx(y, abs=1e-6)
    assert at.grad.item() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("groups", [1, 2])
def test_softmax_sends_back_prediction_minus_truth(temperature: float, groups: int) -> None:
    made = network(f"[softmax]\ngroups={groups}\ntemperature={temperature}").train()
    x = (images() * 30).requires_grad_()
    labels = torch.tensor([0, 70, 5])
    truth = torch.nn.functional.one_hot(labels, 72).float()
    for given in (labels, truth):
        x.grad = None
        loss = made.loss(x, given)
        loss.backward()
        torch.testing.assert_close(x.grad.flatten(1), (made(x).detach() - truth) / 3)
    if groups == 1:
        expected = -temperature * made(x).gather(1, labels[:, None]).log().mean()
        torch.testing.assert_close(loss, expected)


def test_loss_is_stable_where_probabilities_are_zero() -> None:
    made = network("[softmax]").train()
    x = (images() * 1e4).requires_grad_()
    loss = made.loss(x, torch.tensor([0, 1, 2]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize(
    ("kind", "difference"),
    [
        ("sse", lambda d: d),
        ("L1", lambda d: torch.where(d < 0, -1.0, 1.0)),
        ("smooth", lambda d: d.clamp(-1, 1)),
    ],
)
def test_costs_send_back_their_differences(kind: str, difference) -> None:  # type: ignore[no-untyped-def]
    made = network(f"[cost]\ntype={kind}\nscale=.5").train()
    x = (images() * 4 - 2).requires_grad_()
    truth = torch.zeros(3, 72)
    made.loss(x, truth).backward()
    torch.testing.assert_close(x.grad, 0.5 * difference(x.detach()) / 3)


def test_several_costs_add_up() -> None:
    made = network("[softmax]\n[cost]").train()
    x = images().requires_grad_()
    labels = torch.tensor([0, 1, 2])
    made.loss(x, labels).backward()
    truth = torch.nn.functional.one_hot(labels, 72)
    torch.testing.assert_close(x.grad.flatten(1), 2 * (made(x).detach() - truth) / 3)


def test_dropout_is_inverted_and_only_for_training() -> None:
    made = network("[activation]\n[dropout]\nprobability=.25")
    x = torch.ones(500, 2, 6, 6)
    found = made.train()(x)
    torch.testing.assert_close(found.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(made.eval()(x), x.flatten(1))


@pytest.mark.parametrize("dropouts", [1, 2])
def test_what_is_dropped_is_dropped_for_routes_too(dropouts: int) -> None:
    made = network("[activation]\n" + "[dropout]\n" * dropouts + "[activation]\n[route]\nlayers=0,-1\n").train()
    found = made(images())
    assert bool((found == 0).any())
    assert torch.equal(found[:, :72], found[:, 72:])


def test_crop_takes_the_centre_or_in_training_any_place() -> None:
    made = network("[crop]\ncrop_height=4\ncrop_width=3\nflip=1")
    x = images()
    assert torch.equal(made.eval()(x), (2 * x[:, :, 1:5, 1:4] - 1).flatten(1))
    places = {
        (2 * y[:, :, top : top + 4, left : left + 3] - 1).flatten(1).numpy().tobytes()
        for y in (x, x.flip(3))
        for top in range(3)
        for left in range(4)
    }
    made.train()
    found = {made(x).numpy().tobytes() for _ in range(300)}
    assert found == places
    unmoved = network("[crop]\ncrop_height=6\ncrop_width=6\nnoadjust=1").eval()
    assert torch.equal(unmoved(x), x.flatten(1))


def test_upsample_of_odd_factors_repeats_exactly() -> None:
    x = images()
    found = network("[upsample]\nstride=7\nscale=2").eval()(x).reshape(3, 2, 42, 42)
    assert torch.equal(found[:, :, 3::7, 6::7], 2 * x)
    assert torch.equal(found[:, :, ::7, ::7], 2 * x)


def test_maxpool_of_negative_numbers_ignores_the_border() -> None:
    made = network("[maxpool]\nsize=3\nstride=1").eval()
    found = made(-images()).reshape(3, 2, 6, 6)
    assert bool((found < 0).all())


@pytest.mark.parametrize("shape", [(3, 2, 6, 5), (3, 1, 6, 6), (2, 6, 6), (3, 72)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="but \\[net\\] says \\[batch, 2x6x6\\]"):
        network("[connected]")(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2,), (3, 4), (3, 5, 1), ()])
def test_labels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="the labels have the shape"):
        network("[connected]\noutput=5\n[softmax]").loss(images(), torch.zeros(shape))


def test_a_network_without_any_cost_predicts_but_does_not_train() -> None:
    made = network("[connected]\noutput=5\n[softmax]\nnoloss=1")
    assert made(images()).shape == (3, 5)
    with pytest.raises(ConfigError, match="no \\[softmax\\] and no \\[cost\\] to train with"):
        made.loss(images(), torch.zeros(3, dtype=torch.int64))


def test_weights_larger_than_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module.os, "sysconf", lambda name: 10)
    with pytest.raises(ConfigError, match="this machine has 100"):
        network("[connected]\noutput=1")


def test_training_is_the_same_in_deterministic_mode() -> None:
    body = "[conv]\nfilters=3\nsize=3\nstride=2\n[shortcut]\nfrom=0\nbeta=.5\n[upsample]\n[max]\nstride=2\n"
    body += "[softmax]"
    gradients = []
    for mode in (False, True):
        torch.use_deterministic_algorithms(mode)
        try:
            made = network(body).train()
            made.loss(images(), torch.tensor([0, 1, 2])).backward()
        finally:
            torch.use_deterministic_algorithms(False)
        gradients.append(made.layers[0].weights.grad)
    assert torch.equal(*gradients)


def test_every_cfg_of_plinius_and_darknet_builds() -> None:
    if "PLINIUS_DATA" not in os.environ:
        pytest.skip("PLINIUS_DATA does not name the folder with the cfg files of Plinius and Darknet")
    for path in sorted(Path(os.environ["PLINIUS_DATA"], "cfg").glob("*.cfg")):
        config = parse(path.read_bytes(), path.name)
        shape = config.input_shape
        with torch.device("meta"):
            made = Network(config, torch.Generator()).eval()
            found = made(torch.empty(2, shape.channels, shape.height, shape.width))
        assert found.shape == (2, config.outputs)
        saved = sum(tensor.numel() for layer in made.layers if hasattr(layer, "saved") for tensor in layer.saved())
        assert saved == config.parameters
