"""Hugging Face's `Trainer`, which goes on where it was killed, in the middle of an epoch too."""

from __future__ import annotations

from typing import Any

import torch
from plinius.frameworks.transformers import MirrorTrainer
from running import content, options
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback, TrainingArguments, set_seed

RECORDS, BATCH, TOKENS, WORDS = 26, 4, 8, 20


class Report(TrainerCallback):
    """Says which steps are durable."""

    def __init__(self) -> None:
        self.trainer: MirrorTrainer | None = None
        self.reported = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Notes where this life began."""
        self.reported = state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reports the step before."""
        self.report()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reports the last step."""
        self.report()

    def report(self) -> None:
        """Prints the newest durable step, once."""
        step = self.trainer.mirror.latest_step() if self.trainer and self.trainer.mirror else None
        if step and step > self.reported:
            self.reported = step
            print("step", step, flush=True)


def records(seed: int) -> list[dict[str, torch.Tensor]]:
    """Makes texts, the same in every life of the job."""
    texts = torch.randint(WORDS, (RECORDS, TOKENS), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": text, "labels": text} for text in texts]


def trainer_of(job: Any, seed: int = 1, **more: Any) -> MirrorTrainer:
    """Makes a trainer of a tiny language model whose learning rate falls by what evaluation finds."""
    set_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=TOKENS, n_embd=16, n_layer=1, n_head=2))
    arguments = TrainingArguments(
        output_dir=str(job.output) + ".trainer",
        max_steps=job.steps,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=job.accumulate,
        learning_rate=1e-2,
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "factor": 0.9},
        eval_strategy="steps",
        eval_steps=3,
        logging_steps=4,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    data = {"train_dataset": records(1), "eval_dataset": records(2)}
    return MirrorTrainer(model, arguments, **data, pool=job.pool, key=job.key, **more)


def result(trainer: MirrorTrainer) -> bytes:
    """Returns what the training has come to."""
    kept = [trainer.model.state_dict(), trainer.optimizer.state_dict(), trainer.lr_scheduler.state_dict()]
    return content([kept, trainer.state.epoch, trainer.state.global_step, torch.get_rng_state()])


def main() -> None:
    """Trains."""
    parser = options(__doc__)
    parser.add_argument("--accumulate", type=int, default=1, help="batches whose gradients make one step")
    job = parser.parse_args()
    report = Report()
    report.trainer = trainer = trainer_of(job, callbacks=[report])
    trainer.train()
    job.output.write_bytes(result(trainer))


if __name__ == "__main__":
    main()
