"""A loop that checkpoints with torch.distributed.checkpoint into a pool, and goes on where it was killed."""

from __future__ import annotations

from typing import Any

import plinius
import torch
import torch.distributed.checkpoint as dcp
from plinius.frameworks.dcp import MirrorLoadPlanner, MirrorReader, MirrorWriter
from running import content, options
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

RECORDS, BATCH, FEATURES = 52, 8, 10


def main() -> None:
    """Trains."""
    job = options(__doc__).parse_args()
    torch.manual_seed(1)
    inputs = torch.randn(RECORDS, FEATURES, generator=torch.Generator().manual_seed(7))
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def state(step: int) -> dict[str, Any]:
        """Returns all that training continues from: with dcp the generators are the user's to name."""
        of_model, of_optimizer = get_state_dict(model, optimizer)
        return {"model": of_model, "optimizer": of_optimizer, "step": step, "generator": torch.get_rng_state()}

    saved = state(0)
    reader = MirrorReader(job.pool, job.key)
    if reader.exists():
        dcp.load(saved, storage_reader=reader, planner=MirrorLoadPlanner())
        set_state_dict(model, optimizer, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
        torch.set_rng_state(saved["generator"])

    for step in range(saved["step"] + 1, job.steps + 1):
        batch = inputs[plinius.batch_indices(RECORDS, seed=3, step=step - 1, batch=BATCH)]
        nn.functional.mse_loss(model(batch), batch.square().sum(1, keepdim=True)).backward()
        optimizer.step()
        optimizer.zero_grad()
        dcp.save(state(step), storage_writer=MirrorWriter(job.pool, job.key))
        print("step", step, flush=True)
    job.output.write_bytes(content(state(job.steps)))


if __name__ == "__main__":
    main()
