"""Lightning's `Trainer.fit`, which goes on where it was killed, in the middle of an epoch too."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import torch
from plinius.frameworks.lightning import MirrorCallback
from running import content, options
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

RECORDS, BATCH, FEATURES = 50, 8, 10


class Regression(pl.LightningModule):
    """A small network with dropout, whose learning rate falls by steps and by what validation finds."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1)
        )
        self.register_buffer("average", torch.zeros(1, FEATURES))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Returns the loss."""
        inputs, targets = batch
        return nn.functional.mse_loss(self.net(inputs + 0.1 * torch.randn_like(inputs)), targets)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps an average of the inputs."""
        self.average.lerp_(batch[0].mean(0, keepdim=True), 0.1)

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        """Logs what the scheduler looks at; the noise shows whether validation has run as often as it should."""
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1]) + torch.rand(())
        self.log("val_loss", loss, batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        """Makes Adam and a scheduler."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class Report(pl.Callback):
    """Says which steps are durable."""

    def __init__(self, mirrored: MirrorCallback) -> None:
        self.mirrored, self.reported = mirrored, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes where this life began."""
        self.reported = trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Reports the step before."""
        self.report()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports the last step."""
        self.report()

    def report(self) -> None:
        """Prints the newest durable step, once."""
        step = self.mirrored.mirror.latest_step() if self.mirrored.mirror else None
        if step and step > self.reported:
            self.reported = step
            print("step", step, flush=True)


def records(seed: int) -> TensorDataset:
    """Makes data, the same in every life of the job."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(RECORDS, FEATURES, generator=generator)
    return TensorDataset(inputs, inputs.square().sum(1, keepdim=True))


def main() -> None:
    """Trains."""
    parser = options(__doc__)
    parser.add_argument("--accumulate", type=int, default=1, help="batches whose gradients make one step")
    job = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    pl.seed_everything(1, verbose=False)
    model = Regression()
    mirrored = MirrorCallback(job.pool, job.key)
    trainer = pl.Trainer(
        max_steps=job.steps,
        accelerator="cpu",
        accumulate_grad_batches=job.accumulate,
        callbacks=[mirrored, Report(mirrored)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, StatefulDataLoader(records(1), BATCH, shuffle=True), DataLoader(records(2), BATCH))
    kept = [
        model.state_dict(),
        trainer.optimizers[0].state_dict(),
        trainer.lr_scheduler_configs[0].scheduler.state_dict(),
    ]
    job.output.write_bytes(content([kept, torch.get_rng_state()]))


if __name__ == "__main__":
    main()
