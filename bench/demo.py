"""The main job, as a stranger sees it first: train on sealed data, be killed, come back, end with the same bytes."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from pathlib import Path

from runs import Job, Record, plinius, train

CFG = Path(__file__).parent.parent / "examples" / "fashion.cfg"
STEPS = 300
VICTIMS = ("enclave", "host", "both", "enclave")


def main() -> None:
    """Runs the demo and prints what happens, a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of IDX files (Fashion-MNIST or MNIST)")
    parser.add_argument("--output", type=Path, default=Path("demo-out"), help="where everything is put")
    options = parser.parse_args()
    began_s = time.monotonic()
    output: Path = options.output
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    say("pools in this demo lie on", medium_of(output))

    key = output / "job.key"
    say("keygen:", plinius("keygen", key))
    train_data, test_data = seal(options.data, output, key, "train"), seal(options.data, output, key, "t10k")

    left_alone = Job(CFG, train_data, key, output / "left-alone.pool")
    killed = Job(CFG, train_data, key, output / "killed.pool")
    say(f"training {STEPS} steps, left alone; every step is mirrored, sealed, into the pool ...")
    calm = train(left_alone, STEPS)
    say("the same again, and this time kill -9 strikes ...")
    struck = train(killed, STEPS, kill_plan())
    for (whom, durable), resumed in zip(struck.kills, struck.resumed, strict=True):
        say(f"  kill -9 of {whom}: durable step {durable} was reported, resumed after step {resumed}")

    equal = weights(left_alone) == weights(killed)
    say("final weights of the two runs, byte for byte:", "EQUAL" if equal else "DIFFERENT")
    result = json.loads(plinius("infer", CFG, "--pool", killed.pool, "--key", key, "--data", test_data, "--json"))
    say(f"accuracy on {result['records']} sealed test images: {result['accuracy']:.2%}")
    picture = output / "loss.png"
    plot(calm, struck, picture)
    say(f"loss curves of both runs, kills marked: {picture}")
    say(f"that took {time.monotonic() - began_s:.0f} s; all files are in {output}/")
    lost = [k for k, r in zip(struck.kills, struck.resumed, strict=True) if not k[1] <= r <= k[1] + 1]
    if not equal or lost:
        raise SystemExit(f"the demo FAILED: weights {'equal' if equal else 'different'}, durable steps lost: {lost}")


def say(*words: str) -> None:
    """Prints one line at once."""
    print(*(word.strip() if index else word.rstrip() for index, word in enumerate(words)), flush=True)


def medium_of(folder: Path) -> str:
    """What the doctor says of a folder."""
    facts = json.loads(plinius("doctor", folder, "--json"))
    return f"{facts['medium']}: a commit survives a {facts['durability']}"


def seal(folder: Path, output: Path, key: Path, part: str) -> Path:
    """Seals the images and labels of one part."""
    images, labels = (find(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    sealed = output / f"{part}.sealed"
    say("seal:", plinius("seal", "--key", key, "--images", images, "--labels", labels, "--output", sealed))
    return sealed


def find(folder: Path, name: str) -> Path:
    """An IDX file, gzip or not."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.exists():
            return candidate
    raise SystemExit(f"there is no {name} or {name}.gz in {folder}")


def kill_plan() -> list[tuple[int, str]]:
    """One random step in each quarter of the training."""
    part = STEPS // len(VICTIMS)
    return [(random.randrange(n * part + 5, (n + 1) * part - 5), whom) for n, whom in enumerate(VICTIMS)]  # noqa: S311


def weights(job: Job) -> bytes:
    """The final weights of a job, exported by its owner."""
    target = job.pool.with_suffix(".weights")
    plinius("export", job.cfg, "--pool", job.pool, "--key", job.key, "--output", target)
    return target.read_bytes()


def plot(calm: Record, struck: Record, path: Path) -> None:
    """Draws both loss curves; each kill is a line."""
    import matplotlib as mpl  # noqa: PLC0415 (only the picture needs it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axes.plot(*zip(*sorted(calm.losses.items()), strict=True), color="0.75", linewidth=4, label="left alone")
    axes.plot(*zip(*sorted(struck.losses.items()), strict=True), color="C0", linewidth=1.2, label="killed and resumed")
    for number, (whom, durable) in enumerate(struck.kills):
        axes.axvline(durable, color="C3", linestyle="--", linewidth=1, label=None if number else "kill -9")
        axes.annotate(f" {whom}", (durable, 0.98), xycoords=("data", "axes fraction"), color="C3", va="top")
    axes.set(xlabel="step", ylabel="loss", title="Killed with SIGKILL, resumed to the same bytes")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.92))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
