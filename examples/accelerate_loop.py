"""A loop with Hugging Face's Accelerate, which goes on where it was killed, in the middle of an epoch too."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from plinius.frameworks.accelerate import register
from running import content, options
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RECORDS, BATCH, FEATURES = 52, 8, 10


def records() -> TensorDataset:
    """Makes the data, the same in every life of the job."""
    inputs = torch.randn(RECORDS, FEATURES, generator=torch.Generator().manual_seed(7))
    return TensorDataset(inputs, inputs.square().sum(1, keepdim=True))


def main() -> None:
    """Trains."""
    job = options(__doc__).parse_args()
    torch.manual_seed(1)
    loading = DataLoaderConfiguration(use_stateful_dataloader=True, use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, dataloader_config=loading)
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    loader = DataLoader(records(), BATCH, shuffle=True)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)

    mirrored = register(accelerator, job.pool, job.key)
    step = mirrored.restore() or 0
    while step < job.steps:
        for inputs, targets in loader:  # a restored loader first yields the rest of its epoch
            accelerator.backward(nn.functional.mse_loss(model(inputs), targets))
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step += 1
            mirrored.save(step)
            print("step", step, flush=True)
            if step == job.steps:
                break
    kept = [accelerator.unwrap_model(model).state_dict(), optimizer.state_dict(), scheduler.state_dict()]
    job.output.write_bytes(content([kept, torch.get_rng_state()]))


if __name__ == "__main__":
    main()
