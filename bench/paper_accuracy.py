"""The paper's accuracy (98.52 % on MNIST, section VI), with 9 kills on the way, against a run that is left alone.

    PLINIUS_DATA=FOLDER make paper-accuracy

FOLDER holds mnist/ (the four IDX files) and cfg/plinius-mnist.cfg (12 LReLU-convolutional layers).
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from demo import find, weights
from runs import Job, plinius, train

STEPS = 500
VICTIMS = ("enclave", "host", "both") * 3
PAPER_ACCURACY = 0.9852
WANTED_ACCURACY = 0.985


def main() -> None:
    """Trains twice, compares, and prints one line of JSON at the end."""
    folder = os.environ.get("PLINIUS_DATA")
    if not folder:
        sys.exit("PLINIUS_DATA is not set: name a folder with mnist/ and cfg/plinius-mnist.cfg in it")
    cfg = Path(folder) / "cfg" / "plinius-mnist.cfg"
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="plinius-") as place:
        report = run(cfg, Path(folder) / "mnist", Path(place))
    print(json.dumps(report))
    if not (report["weights_equal"] and report["accuracy"] >= WANTED_ACCURACY):
        sys.exit(1)


def run(cfg: Path, mnist: Path, place: Path) -> dict[str, object]:
    """Both runs and what they show."""
    key = place / "job.key"
    plinius("keygen", key)
    sealed = {part: place / f"{part}.sealed" for part in ("train", "t10k")}
    for part, output in sealed.items():
        pair = [find(mnist, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
        plinius("seal", "--key", key, "--images", pair[0], "--labels", pair[1], "--output", output)

    kills = sorted(zip(random.sample(range(2, STEPS - 2), len(VICTIMS)), VICTIMS, strict=True))
    jobs = {name: Job(cfg, sealed["train"], key, place / f"{name}.pool") for name in ("alone", "killed")}
    seconds, records = {}, {}
    for name, plan in (("killed", kills), ("alone", [])):
        began_s = time.monotonic()
        records[name] = train(jobs[name], STEPS, plan)
        seconds[name] = round(time.monotonic() - began_s, 1)
        print(
            f"{name}: {seconds[name]} s, kills {records[name].kills}, resumed after {records[name].resumed}", flush=True
        )
    answer = json.loads(
        plinius("infer", cfg, "--pool", jobs["killed"].pool, "--key", key, "--data", sealed["t10k"], "--json")
    )
    return {
        "accuracy": answer["accuracy"],
        "paper_accuracy": PAPER_ACCURACY,
        "images": answer["records"],
        "kills": len(records["killed"].kills),
        "weights_equal": weights(jobs["alone"]) == weights(jobs["killed"]),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
