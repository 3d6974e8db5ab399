"""The command `plinius`. Each command's help teaches; each error is one line, with an exit code by its class."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from plinius import broker_cli, errors, moving_cli, owner_cli, streams
from plinius.files import shown_name
from plinius.limits import MAX_STEPS
from plinius.options import Json, Keep, Restarts, Seed, Steps, Threads, from_to, not_empty
from plinius.streams import answer, complain

EXIT_CODES: dict[type[errors.PliniusError], int] = {
    errors.ConfigError: 3,
    errors.PoolError: 4,
    errors.PoolFull: 5,
    errors.PoolBusy: 6,
    errors.PoolCorrupt: 7,
    errors.PoolVersion: 8,
    errors.IntegrityError: 9,
    errors.RollbackError: 10,
    errors.AttestationError: 11,
    errors.EnclaveError: 12,
}
_OTHER_EXIT_CODE = 1
_USAGE_EXIT_CODE = 2
_PIPE_EXIT_CODE = 128 + signal.SIGPIPE

app = App(
    name="plinius",
    help="Secure and persistent machine-learning training.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
    console=streams.Screen(),
    default_parameter=Parameter(negative=(), validator=not_empty),
    help_epilogue="Exit codes: 0 done, 1 anything else, 2 usage, 3 option or file, 4 pool, 5 full, 6 busy, 7 damaged "
    "pool, 8 pool version, 9 integrity, 10 rollback, 11 attestation, 12 enclave, 128+n stopped by signal n (durably).",
)

Cfg = Annotated[str, Parameter(help="Darknet's description of the network (.cfg).")]
Identity = Annotated[str | None, Parameter(help="A file with the age identity that unlocks the key file.")]
KeyFile = Annotated[str, Parameter(help="The job's key file, see: plinius keygen.")]
PoolFile = Annotated[str, Parameter(help="The pool. On /dev/shm: emulated PM, lost with the machine.")]
DataFile = Annotated[str, Parameter(help="A sealed data set, see: plinius seal.")]
NoSandbox = Annotated[bool, Parameter(help="Go on where the kernel lacks a part of the enclave's sandbox.")]


@app.command
def seal(*, key: KeyFile, images: str, labels: str, output: str, identity: Identity = None, json: Json = False) -> None:
    """Pack images and labels into one sealed file that only enclaves with the key can read.

    Args:
        images: IDX file of images, gzip or not (MNIST, Fashion-MNIST).
        labels: IDX file of labels, gzip or not.
        output: The sealed data set to make.
    """
    from plinius import process
    from plinius.owner.keyfile import load_key
    from plinius.owner.pack import seal_idx

    process.leave_no_traces()
    opened = load_key(key, identity=identity)
    with streams.bar("sealing", quiet=json) as progress:
        header = seal_idx(images, labels, opened, output, progress)
    facts = {"path": output, "id": header.id.hex(), "records": header.count, "key_id": header.key_id.hex()}
    answer(json, facts, f"wrote {output}: {header.count} records, data set {facts['id']}, key {facts['key_id']}")


@app.command
def train(
    cfg: Cfg,
    /,
    *,
    data: DataFile,
    key: KeyFile,
    pool: PoolFile,
    steps: Steps | None = None,
    every: Steps | None = None,
    keep: Keep | None = None,
    seed: Seed | None = None,
    threads: Threads | None = None,
    restarts: Restarts = 3,
    reveal: Literal["loss"] | None = None,
    insecure_no_sandbox: NoSandbox = False,
    json: Json = False,
) -> None:
    """Train a network on sealed data; after every step its whole state is mirrored, sealed, into the pool.

    Kill it anywhere and run the same command again: it goes on after the last durable step, to the very same bits.
    Options left out are those of the job in the pool. Ctrl-C and SIGTERM stop cleanly.
    A pool that another process has open is waited for, a few seconds.

    Args:
        steps: Total optimizer steps; without it, the job's, or for a new job the cfg's max_batches.
        every: Mirror every so many steps; without it, the job's, or 1.
        keep: So many generations stay in the pool, for export --step; without it, the job's, or 1.
        seed: Of initialization, order and dropout; without it, the job's, or 1. It cannot change.
        threads: Of the framework; without it, the job's, or one for each core. Other threads, other bits.
        restarts: How often an enclave that died is started again.
        reveal: What the untrusted host may see beside step numbers: loss.
        json: Print each message as a line of JSON.
    """
    from plinius.host.commands import Paths
    from plinius.host.commands import train as run
    from plinius.wire import Train

    command = Train(shown_name(cfg), shown_name(data), shown_name(pool), steps, every, seed, threads, keep)
    paths = Paths(cfg, data, key, pool, insecure_no_sandbox)
    result = run(paths, command, reveal=(reveal,) if reveal else (), restarts=restarts, json=json)
    if result.exit_code:
        complain(result.words(pool))
        sys.exit(result.exit_code)
    if not json:
        streams.tell(result.words(pool))


@app.command
def infer(
    cfg: Cfg,
    /,
    *,
    pool: PoolFile,
    key: KeyFile,
    data: DataFile,
    threads: Threads | None = None,
    insecure_no_sandbox: NoSandbox = False,
    json: Json = False,
) -> None:
    """Classify a sealed data set with the model in the pool, inside the enclave (secure inference).

    The data set is loaded into the pool once and stays there: the pool grows by its size.

    Args:
        threads: Of the framework; without it, one for each core.
    """
    from plinius.host.commands import Paths
    from plinius.host.commands import infer as run
    from plinius.wire import Infer

    command = Infer(shown_name(cfg), shown_name(data), shown_name(pool), threads)
    result = run(Paths(cfg, data, key, pool, insecure_no_sandbox), command, quiet=json)
    accuracy = result.correct / result.records
    facts = {
        "step": result.step,
        "records": result.records,
        "correct": result.correct,
        "accuracy": accuracy,
        "images_per_s": result.records / result.seconds,
    }
    text = f"accuracy {accuracy:.2%}: {result.correct} of {result.records} right, after step {result.step}"
    answer(json, facts, f"{text}; {facts['images_per_s']:.0f} images/s")


@app.command
def export(
    cfg: Cfg,
    /,
    *,
    pool: PoolFile,
    key: KeyFile,
    output: str,
    step: Annotated[int | None, Parameter(validator=from_to(0, MAX_STEPS))] = None,
    identity: Identity = None,
    json: Json = False,
) -> None:
    """Write the trained model of a pool, in the clear, to a file that is readable by you only.

    Runs as the owner: on your machine, with the pool fetched home.

    Args:
        output: A name that ends in .weights (Darknet) or .safetensors; an existing file is not overwritten.
        step: Of a kept generation; without it, the newest.
    """
    from plinius import process
    from plinius.owner.export import export as run

    process.leave_no_traces()
    exported = run(cfg, pool, key, output, step, identity)
    answer(json, {"path": output, "step": exported}, f"wrote {output}: the model after step {exported}")


@app.command
def status(pool: PoolFile, /, *, json: Json = False) -> None:
    """Show what anybody may know of a pool: no key is needed, and nothing shown is verified."""
    from plinius.inspection import describe, explain
    from plinius.pool_file import require_pool

    require_pool(pool)
    facts = describe(pool)
    answer(json, facts, *explain(facts))


@app.command
def doctor(path: str = ".", /, *, json: Json = False) -> None:
    """Show what this machine has: CPU instructions, what a pool at a path would survive, TEE devices.

    Args:
        path: A folder, or a pool or any other file, whose content is not read.
    """
    from plinius.doctor import describe, explain

    facts = describe(path)
    answer(json, facts, *explain(facts))


for command in (
    owner_cli.keygen,
    owner_cli.policy,
    owner_cli.verify,
    broker_cli.manifest,
    broker_cli.broker,
    broker_cli.audit,
    broker_cli.host,
    moving_cli.move,
    moving_cli.drain,
    moving_cli.fetch,
):
    app.command(command)
app.command(
    "plinius.bench.commands:app", name="bench", help="Measure on this machine what the figures of the paper show."
)


def main() -> NoReturn:
    """Runs the command line; every error is one line on standard error."""
    try:
        streams.complete()
        app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        text = " ".join(str(error).split()).partition(" Available commands:")[0].rstrip(".,? ")  # those are cut
        complain(f"{text}; see: plinius --help")
        sys.exit(_USAGE_EXIT_CODE)
    except errors.PliniusError as error:
        complain(" ".join(str(error).split()))
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        is_training = sys.argv[1:2] in (["train"], ["host"])
        complain("stopped at once; what was reported durable is kept" if is_training else "stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(_PIPE_EXIT_CODE)
    except OSError as error:
        complain(" ".join(str(error).split()))
        sys.exit(_OTHER_EXIT_CODE)
    sys.exit(0)


def exit_code(error: errors.PliniusError) -> int:
    """The exit code of the nearest class that has one."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), _OTHER_EXIT_CODE)


if __name__ == "__main__":
    main()
