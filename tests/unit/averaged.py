"""A job whose model has an average, for tests of saves in the background."""

from __future__ import annotations

import torch
from plinius import Key, Mirror, Pool


class Job:
    """A model with batch normalization, an average of it, and an optimizer with momentum."""

    def __init__(self, pool: Pool, key: Key, seed: int = 1, **more: object) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 2))
        self.average = torch.optim.swa_utils.AveragedModel(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.mirror = Mirror(
            pool, key, name="net", model=self.model, optimizer=self.optimizer, average=self.average, **more
        )

    def backward(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(16, 8)).square().sum().backward()

    def step(self) -> None:
        self.backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def state(self) -> list[bytes]:
        tensors = [*self.model.state_dict().values(), *self.average.state_dict().values()]
        tensors += [it for state in self.optimizer.state.values() for it in state.values()]
        return [tensor.detach().numpy().tobytes() for tensor in tensors]
