"""The README's own Python, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import plinius
import pytest
import torch
from plinius.bench import registry

README = Path(__file__).parents[2] / "README.md"


def test_each_speed_of_the_readme_is_in_a_section_of_the_report() -> None:
    speeds = README.read_text().partition("**Speed.**")[2].partition("**That it holds.**")[0]
    sections = re.findall(r"^\| `(\w+)` \|", speeds, re.MULTILINE)
    assert len(sections) > 10
    assert set(sections) <= set(registry.NAMES)
    # Nothing stands in that table without a section.
    rows = [line for line in speeds.splitlines() if line.startswith("|")]
    assert len(rows) == len(sections) + 2


def test_the_loop_and_the_sealed_data_of_the_readme_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, data, arrays = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    plinius.Key.generate().save("job.key")
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    names = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2),
        "total_steps": 3,
        "images": np.zeros((256, 1, 2, 2), np.uint8),
        "labels": np.zeros(256, np.uint8),
    }
    exec(loop.replace("/dev/shm/job.pool", str(folder / "job.pool")), names)  # noqa: S102, S108
    mirror = names["mirror"]
    assert isinstance(mirror, plinius.Mirror)
    assert mirror.latest_step() == 3
    exec(data, names)  # noqa: S102
    images = names["images"]
    assert isinstance(images, np.ndarray)
    assert images.shape == (128, 1, 2, 2)
    exec(arrays.replace("/dev/shm/work.pool", str(folder / "work.pool")), names | {"np": np})  # noqa: S102, S108
    with plinius.Pool(folder / "work.pool") as pool:
        assert pool["counts"].sum() == 2
        assert len(pool["log"]) == 2
