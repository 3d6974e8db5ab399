"""The broker's jobs: a folder for each, with its manifest, its policy and its key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from plinius.attest import simulated
from plinius.attest.manifest import FORMAT_VERSION, MAX_MANIFEST_BYTES, JobManifest, body, digest, parse, signed
from plinius.attest.signing import manifest_content
from plinius.darknet.cfg import parse as parse_cfg
from plinius.dataset import Header
from plinius.errors import ConfigError, EvidenceError
from plinius.files import read_small
from plinius.mirror.manifest import JOB_ID_BYTES
from plinius.owner.broker import Job
from plinius.owner.identity import Identity
from plinius.owner.keyfile import load_key
from plinius.owner.policy import load as load_policy
from plinius.owner.verifiers import Endorsements

MANIFEST, POLICY, KEY = "manifest", "policy.toml", "job.key"
COLLATERAL, CERTIFICATES, REVOCATIONS = "collateral.json", ("vcek.der", "ask.der", "ark.der"), "revocations.der"
EK_ROOTS: Final = "ek-roots.pem"
_MAX_ENDORSEMENT_BYTES: Final = 1 << 20


def make_manifest(
    identity: Identity,
    job: str,
    cfg: tuple[str, bytes],
    header: Header,
    *,
    steps: int | None,
    every: int,
    keep: int,
    seed: int,
    threads: int | None,
    reveal: Sequence[str],
    continues: JobManifest | None,
    code: bytes | None = None,
) -> bytes:
    """Makes and signs the manifest of a job.

    Args:
        identity: The owner.
        job: What she and the host call it.
        cfg: The network: its file's name, and its bytes.
        header: Of the sealed data set.
        steps: None: the cfg's max_batches.
        every: Mirror every so many steps.
        keep: Generations that stay.
        seed: Of initialization, order and dropout.
        threads: Of the framework.
        reveal: What the host may be told.
        continues: The manifest of which this is a new version: the pool and the freshness record go on.
        code: Measurement of the plinius that is to run it; None: of this one.

    Raises:
        ConfigError: The cfg cannot be used, or an option is out of range.
    """
    cfg_name, content = cfg
    if continues is not None and (continues.job, continues.owner) != (job, identity.public):
        raise ConfigError(f"the earlier manifest is of the job {continues.job!r}, or of another identity")
    manifest = JobManifest(
        format=FORMAT_VERSION,
        job=job,
        job_id=continues.job_id if continues else secrets.token_bytes(JOB_ID_BYTES),
        owner=identity.public,
        code=code or simulated.measurement(),
        cfg=content,
        cfg_name=Path(cfg_name).name,
        data=header.id.hex(),
        steps=steps or parse_cfg(content, cfg_name).net.max_batches,
        every=every,
        keep=keep,
        seed=seed,
        threads=threads,
        reveal=sorted(reveal),
    )
    made = signed(manifest, identity.sign(manifest_content(body(manifest))))
    try:
        parse(made)  # as an enclave will
    except EvidenceError as error:
        raise ConfigError(f"no enclave would take this manifest: {error}") from None
    return made


def read_manifest(path: str) -> tuple[JobManifest, bytes]:
    """Reads a signed manifest from a file.

    Raises:
        ConfigError: There is none, or it was changed.
    """
    content = read_small(path, MAX_MANIFEST_BYTES, "the manifest")
    try:
        return parse(content), content
    except EvidenceError as error:
        raise ConfigError(str(error), path=path) from None


def load_jobs(folder: str, identity: Identity) -> dict[str, Job]:
    """Reads all jobs: ``folder/JOB/`` with ``manifest``, ``policy.toml`` and ``job.key``.

    There may be vendors' statements too, for evidence that brings none: ``collateral.json`` (SGX, TDX), ``vcek.der``,
    ``ask.der``, ``ark.der`` and ``revocations.der`` (SEV-SNP), ``ek-roots.pem`` (TPM).

    Raises:
        ConfigError: There is none, or a file of one is missing, malformed or another owner's.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise ConfigError(f"cannot read the folder of jobs: {error.strerror}", path=folder) from None
    jobs = {name: _load(os.path.join(folder, name), name, identity) for name in names}  # noqa: PTH118 (the user's string)
    if not jobs:
        raise ConfigError(f"no job here: make {folder}/JOB with {MANIFEST}, {POLICY} and {KEY}", path=folder)
    ids = [job.manifest.job_id for job in jobs.values()]
    if len(set(ids)) != len(ids):
        raise ConfigError("two jobs have manifests with one id: the newer one must replace the older", path=folder)
    return jobs


def _load(folder: str, name: str, identity: Identity) -> Job:
    path = os.path.join(folder, MANIFEST)  # noqa: PTH118
    manifest, content = read_manifest(path)
    if manifest.owner != identity.public:
        raise ConfigError("this manifest was signed by another identity than the broker's", path=path)
    if manifest.job != name:
        raise ConfigError(f"this manifest is of the job {manifest.job!r}; name the folder like that", path=path)
    policy_path = os.path.join(folder, POLICY)  # noqa: PTH118
    policy = load_policy(policy_path)
    key = load_key(os.path.join(folder, KEY))  # noqa: PTH118
    return Job(manifest, content, digest(content), policy, key, _endorsements(folder))


def _endorsements(folder: str) -> Endorsements:
    """What the owner has put there of the vendors' statements; most evidence brings its own."""

    def optional(name: str) -> bytes:
        path = os.path.join(folder, name)  # noqa: PTH118
        if not os.path.lexists(path):
            return b""
        content = read_small(path, _MAX_ENDORSEMENT_BYTES, "the vendor's statement")
        if not content:  # which would be taken for none
            raise ConfigError("this file is empty; remove it, or fetch it anew", path=path)
        return content

    certificates = tuple(filter(None, map(optional, CERTIFICATES)))
    collateral = optional(COLLATERAL).decode(errors="replace")  # what is no text is no JSON either, and refused
    try:
        ek_roots = tuple(x509.load_pem_x509_certificates(roots)) if (roots := optional(EK_ROOTS)) else ()
    except ValueError as error:
        raise ConfigError(f"these are no certificates: {error}", path=os.path.join(folder, EK_ROOTS)) from None  # noqa: PTH118
    return Endorsements(collateral, certificates, optional(REVOCATIONS), ek_roots)
