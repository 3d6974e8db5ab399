"""`plinius manifest`, `broker`, `audit` at the owner's, and `plinius host` on the machine that she does not trust."""

from __future__ import annotations

import json as json_module
import sys
from typing import Literal

from plinius.options import Code, JobName, Json, Keep, Restarts, Seed, Steps, Threads
from plinius.streams import complain, say, tell


def manifest(
    cfg: str,
    /,
    *,
    job: JobName,
    data: str,
    identity: str,
    output: str,
    steps: Steps | None = None,
    every: Steps = 1,
    keep: Keep = 1,
    seed: Seed = 1,
    threads: Threads | None = None,
    reveal: Literal["loss"] | None = None,
    continues: str | None = None,
    code: Code | None = None,
) -> None:
    """Write and sign what a job is: network, data set, code, steps. An enclave runs this and nothing else.

    Args:
        cfg: Darknet's description of the network (.cfg).
        job: What you and the host will call it.
        data: The sealed data set, see: plinius seal.
        identity: Your signing identity, see: plinius keygen --signing.
        output: The manifest to make; the broker expects JOBS/JOB/manifest.
        steps: Total optimizer steps; without it, the cfg's max_batches.
        every: Mirror every so many steps.
        keep: So many generations stay in the pool.
        seed: Of initialization, order and dropout.
        threads: Of the framework; without it, one for each core.
        reveal: What the untrusted host may see beside step numbers: loss.
        continues: An earlier manifest of the same job: its pool is gone on from.
        code: The build of plinius that the host has, if it is not this one: what its enclave says when it refuses.
    """
    from plinius import process
    from plinius.dataset import HEADER_BYTES, Header
    from plinius.files import new_file, read_start
    from plinius.owner.export import read_cfg
    from plinius.owner.identity import Identity
    from plinius.owner.jobs import make_manifest, read_manifest

    process.leave_no_traces()
    made = make_manifest(
        Identity.load(identity),
        job,
        (cfg, read_cfg(cfg)),
        Header.parse(read_start(data, HEADER_BYTES, "the sealed data set"), data),
        steps=steps,
        every=every,
        keep=keep,
        seed=seed,
        threads=threads,
        reveal=[reveal] if reveal else [],
        continues=read_manifest(continues)[0] if continues else None,
        code=bytes.fromhex(code) if code else None,
    )
    with new_file(output, 0o644) as file:
        file.write(made)
    say(f"wrote {output}")


def broker(*, jobs: str, identity: str, state: str, listen: str = "127.0.0.1") -> None:
    """Release keys to enclaves that prove what they are, and remember how new each job's state is.

    Every answer is on the disk before it is given: kill the broker at any moment and start it again. A host needs the
    TLS certificate that it writes into its state folder (broker.crt); it is no secret. The jobs are read once: start it
    again for a new job or a changed policy. It asks for the passphrase of a job.key that is locked with one.

    Args:
        jobs: A folder with a folder for each job: manifest, policy.toml, job.key.
        identity: Your signing identity, see: plinius keygen --signing.
        state: A folder for what must not be forgotten: freshness heads, sessions, the audit log. Never put it back.
        listen: HOST:PORT, by default port 7654 of this machine; insecure-tcp://HOST:PORT is without TLS.
    """
    from plinius import process
    from plinius.endpoint import Endpoint
    from plinius.owner.identity import Identity
    from plinius.owner.jobs import load_jobs
    from plinius.owner.service import serve_broker

    process.leave_no_traces()
    owner = Identity.load(identity)
    serve_broker(owner, load_jobs(jobs, owner), Endpoint.parse(listen), state, say)


def audit(*, state: str, json: Json = False) -> None:
    """Show and check the broker's audit log: what it released, refused and advanced, in a chain of hashes.

    A pool that an enclave refuses (put back, empty, forked) is not in it: there the broker sees no advance.

    The last line's hash covers all before it: note it elsewhere, and nobody can shorten the log unseen.

    Args:
        state: The broker's state folder.
    """
    from plinius.owner.service import open_store

    for entry in open_store(state, create=False).audit():
        if json:
            say(json_module.dumps(entry.facts()))
        else:
            tell(entry.line())


def host(
    *,
    broker: str,
    job: str,
    pool: str,
    data: str,
    broker_cert: str | None = None,
    tee: Literal["simulated", "sgx", "tdx", "snp", "tpm2"] = "simulated",
    tpm: str | None = None,
    kept_key: str | None = None,
    restarts: Restarts = 3,
    insecure_no_sandbox: bool = False,
    json: Json = False,
) -> None:
    """Run a job of somebody else's on this machine: an enclave gets its key from her broker, and trains.

    This side holds no secret. Give the same command again after a crash. Ctrl-C and SIGTERM stop cleanly.

    Args:
        broker: HOST:PORT of the owner's broker; insecure-tcp://HOST:PORT is without TLS.
        job: The job, as the broker calls it.
        pool: The pool. On /dev/shm: emulated PM, lost with the machine.
        data: The sealed data set.
        broker_cert: The broker's TLS certificate: broker.crt of its state folder.
        tee: What the enclave proves itself with: simulated, which the owner's policy must accept by its insecure name.
        tpm: The machine's TPM: /dev/tpmrm0.
        kept_key: A file for the key, sealed to the TPM, where the owner allows that: a restart asks no broker then.
        restarts: How often an enclave that died is started again.
        insecure_no_sandbox: Start the enclave also where the kernel lacks a part of its sandbox.
        json: Print each message as a line of JSON.
    """
    from plinius.endpoint import Endpoint
    from plinius.host.commands import Site, train_for_broker

    endpoint = Endpoint.parse(broker)
    result = train_for_broker(
        Site(job, pool, data, tee, tpm, kept_key, insecure_no_sandbox),
        endpoint,
        broker_cert,
        restarts=restarts,
        json=json,
    )
    if result.exit_code:
        complain(result.words(pool))
        sys.exit(result.exit_code)
    if not json:
        tell(result.words(pool))
