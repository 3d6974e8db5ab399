"""Updates, written out as Darknet computes them, against the optimizer."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from plinius.darknet import Network, accumulate_gradients, make_optimizer, parse, set_rate  # noqa: E402
from plinius.darknet.training import Training  # noqa: E402
from plinius.errors import ConfigError  # noqa: E402

NET = b"[net]\nheight=3\nwidth=3\nchannels=1\nbatch=4\nmomentum=.8\ndecay=.1\nsubdivisions=%d\n"
BODY = b"[conv]\nfilters=2\nsize=2\nbatch_normalize=1\nactivation=leaky\n[connected]\noutput=3\n"


def network(body: bytes, subdivisions: int = 1) -> Network:
    return Network(parse(NET % subdivisions + body, "a.cfg"), torch.Generator().manual_seed(1)).train()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 2, 0])


def test_updates_are_those_of_darknet() -> None:
    made = network(BODY + b"learning_rate=.5\n[softmax]")
    optimizer = make_optimizer(made, made.config)
    values = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    updates = {name: torch.zeros_like(value) for name, value in values.items()}
    images, labels = batch()
    for rate in (0.3, 0.2, 0.1):
        optimizer.zero_grad()
        accumulate_gradients(made, images, labels)
        # Darknet's updates are sums over the batch, downhill.
        gradients = {name: -4 * parameter.grad for name, parameter in made.named_parameters()}
        set_rate(optimizer, rate)
        optimizer.step()
        for name, value in values.items():
            updates[name] += gradients[name]
            if name.endswith("weights"):
                updates[name] -= 0.1 * 4 * value
            own_rate = rate * (0.5 if name.startswith("layers.1") else 1.0)
            value.add_(updates[name], alpha=own_rate / 4)
            updates[name] *= 0.8
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(parameter.detach(), values[name])


def test_subdivisions_add_up_to_the_mean_of_the_whole_batch() -> None:
    body = b"[connected]\noutput=3\nactivation=linear\n[softmax]"
    images, labels = batch()
    whole, parts = network(body), network(body, subdivisions=2)
    losses = [accumulate_gradients(made, images, labels) for made in (whole, parts)]
    torch.testing.assert_close(*losses)
    assert not losses[0].requires_grad
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_batch_normalization_sees_each_subdivision_for_itself() -> None:
    images, labels = batch()
    made = network(BODY + b"[softmax]", subdivisions=2)
    accumulate_gradients(made, images, labels)
    with torch.no_grad():
        x = torch.nn.functional.conv2d(images, made.layers[0].weights)
    first, second = x[:2].mean((0, 2, 3)), x[2:].mean((0, 2, 3))
    torch.testing.assert_close(made.layers[0].rolling_mean, 0.01 * second + 0.99 * 0.01 * first)


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    images, labels = batch()
    with pytest.raises(ConfigError, match="subdivisions = 2 does not divide a batch of 3"):
        accumulate_gradients(network(BODY + b"[softmax]", subdivisions=2), images[:3], labels[:3])


@pytest.mark.parametrize("labels", [[0, 3], [3, 0], [-1, 0], [0, 255]])
def test_a_label_that_is_no_class_is_refused_before_anything_is_trained(labels: list[int]) -> None:
    """And not named: the host reads the message, and the labels are the data's."""
    text = b"[net]\nheight=2\nwidth=2\nchannels=1\nbatch=2\n[connected]\noutput=3\nactivation=linear\n[softmax]\n"
    training = Training.start(parse(text, "a.cfg"), 1)
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    images = np.ones((2, 1, 2, 2), np.float32)
    with pytest.raises(ConfigError, match=r"labels that are no class of this network, which has 3 outputs$"):
        training.step(0, images, np.array(labels))
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.network.state_dict().items())
    training.step(0, images, np.array([0, 2]))
