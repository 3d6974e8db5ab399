"""A plain PyTorch loop that goes on where it was killed; each flag adds one more thing that has state.

Try it: `plinius keygen job.key`, then

    python examples/torch_loop.py --pool /dev/shm/job.pool --key job.key --output final.bin --steps 200 --loader --ema
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import plinius
import torch
from running import content, options
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import TensorDataset

RECORDS, BATCH, FEATURES, CLASSES = 52, 8, 12, 3


def parsed() -> Namespace:
    """Reads the command line."""
    parser = options(__doc__)
    parser.add_argument("--loader", action="store_true", help="a shuffling StatefulDataLoader, resumed mid-epoch")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16, and a GradScaler")
    parser.add_argument("--ema", action="store_true", help="a moving average of the weights")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches whose gradients make one step")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    return parser.parse_args()


def records() -> TensorDataset:
    """Makes the data, the same in every life of the job."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(RECORDS, FEATURES, generator=generator)
    return TensorDataset(inputs, torch.randint(CLASSES, (RECORDS,), generator=generator))


def state(job: Namespace) -> dict[str, Any]:
    """Makes everything that training continues from."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, CLASSES)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    parts: dict[str, Any] = {
        "model": torch.compile(model) if job.compile else model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50),
    }
    if job.loader:
        from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: PLC0415 (only where it is asked for)

        parts["loader"] = StatefulDataLoader(records(), BATCH, shuffle=True)
    if job.amp:
        parts["scaler"] = torch.amp.GradScaler("cpu")
    if job.ema:
        parts["ema"] = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    return parts


def batches(step: int, loader: Any) -> Iterator[list[torch.Tensor]]:
    """Yields the batches from this step on."""
    while loader is not None:
        yield from loader  # a restored loader first yields the rest of its epoch
    data = records()
    while True:
        indices = plinius.batch_indices(RECORDS, seed=3, step=step, batch=BATCH)
        yield list(data[torch.from_numpy(indices)])
        step += 1


def train_step(parts: dict[str, Any], batch: list[torch.Tensor], job: Namespace) -> None:
    """Makes one optimizer step."""
    scaler = parts.get("scaler") or torch.amp.GradScaler("cpu", enabled=False)
    micro_batches = list(zip(*(tensor.chunk(job.accumulate) for tensor in batch), strict=True))
    for inputs, labels in micro_batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.amp):
            loss = nn.functional.cross_entropy(parts["model"](inputs), labels)
        scaler.scale(loss / len(micro_batches)).backward()
    scaler.step(parts["optimizer"])
    scaler.update()
    parts["optimizer"].zero_grad()
    parts["scheduler"].step()
    if "ema" in parts:
        parts["ema"].update_parameters(parts["model"])


def main() -> None:
    """Trains."""
    job = parsed()
    parts = state(job)
    mirror = plinius.Mirror(job.pool, job.key, name="torch-loop", **parts)
    start = mirror.restore() or 0
    for step, batch in zip(range(start + 1, job.steps + 1), batches(start, parts.get("loader")), strict=False):
        train_step(parts, batch, job)
        mirror.save(step)
        print("step", step, flush=True)
    kept = {name: part.state_dict() for name, part in parts.items() if name != "loader"}
    job.output.write_bytes(content([kept, torch.get_rng_state()]))


if __name__ == "__main__":
    main()
