"""The commands of an owner at her desk: `plinius keygen`, `policy` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from plinius.options import Json
from plinius.streams import answer, tell

if TYPE_CHECKING:
    from datetime import datetime

At = Annotated[str | None, Parameter(help="When, as 2025-07-01 or 2025-07-01T12:00:00Z; without it, now.")]
Collateral = Annotated[str | None, Parameter(help="JSON with the collateral of a quote, if the evidence brings none.")]
Certificates = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, help="VCEK, ASK and ARK of an SNP report, DER or PEM."),
]
Revocations = Annotated[str | None, Parameter(help="AMD's revocation list for an SNP report, DER.")]


def keygen(
    path: str,
    /,
    *,
    cipher: str | None = None,
    passphrase: bool = False,
    recipient: tuple[str, ...] = (),
    signing: bool = False,
) -> None:
    """Make a new key file, readable by you only.

    Keep a copy: without it nothing that was sealed can be opened. An existing file is never overwritten.

    Args:
        path: The key file to make.
        cipher: aes-128-gcm (as in the paper; without it, this), aes-192-gcm or aes-256-gcm.
        passphrase: Lock the file with a passphrase (age format), asked on the terminal or read from standard input.
        recipient: Lock it to an age recipient, age1...; may be given several times.
        signing: Make your signing key instead (Ed25519), with which you sign what an enclave may believe.
    """
    from plinius import process
    from plinius.errors import ConfigError
    from plinius.owner.identity import Identity
    from plinius.owner.keyfile import ask_passphrase, save_key
    from plinius.seal import Key

    if (signing and (passphrase or recipient)) or (passphrase and recipient):
        raise ConfigError("give one of --passphrase, --recipient and --signing")
    if signing and cipher:
        raise ConfigError("--cipher: a signing key has none; leave it out")
    process.leave_no_traces()
    if signing:
        identity = Identity.generate()
        identity.save(path)
        tell(f"wrote {path}: a signing key, its public half {identity.public.hex()}")
        return
    key = Key.generate(cipher or "aes-128-gcm")
    if passphrase:
        save_key(key, path, passphrase=ask_passphrase(twice=True))
    elif recipient:
        save_key(key, path, recipients=recipient)
    else:
        key.save(path)
    locked = ", locked with a passphrase" if passphrase else f", locked to {', '.join(recipient)}" if recipient else ""
    tell(f"wrote {path}: {key.cipher}, key id {key.id}{locked}")


def policy(
    *,
    tee: Literal["simulated-insecure", "sgx", "tdx", "snp", "tpm2"],
    output: str,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    at: At = None,
    collateral: Collateral = None,
    certificates: Certificates = (),
    revocations: Revocations = None,
) -> None:
    """Write a policy to start from: which enclaves get the key. Read it and fill it in before you use it.

    Args:
        tee: The TEE whose enclaves are accepted. simulated-insecure proves nothing: for development.
        output: The file to make (TOML); an existing one is not overwritten.
        from_: Evidence of the enclave to accept: it is verified, and its values are filled in.
    """
    from plinius.errors import ConfigError
    from plinius.files import new_file
    from plinius.owner.evidence import read
    from plinius.owner.starting import starting_policy
    from plinius.owner.verify import claims_of

    if from_ is None and (at or collateral or certificates or revocations is not None):
        raise ConfigError(
            "--at, --collateral, --certificates and --revocations are about evidence: name it with --from"
        )
    claims = claims_of(read(from_, collateral, certificates, revocations), _time(at)) if from_ else None
    text = starting_policy(tee, claims)
    with new_file(output, mode=0o644) as file:
        file.write(text.encode())
    tell(f"wrote {output}; read it, fill in what is empty, and try it: plinius verify EVIDENCE --policy {output}")


def verify(
    evidence: str,
    /,
    *,
    policy: str | None = None,
    at: At = None,
    collateral: Collateral = None,
    certificates: Certificates = (),
    revocations: Revocations = None,
    json: Json = False,
) -> None:
    """Appraise evidence from a file, offline, and say of each check what was found. Exit code 11: refused.

    Args:
        evidence: An SGX or TDX quote, an SNP report (both binary or hexadecimal), or evidence that plinius made. A
            TPM's proves nothing outside of its session with a broker.
        policy: What is accepted, see: plinius policy. Without it, only whether the evidence is genuine is said.
    """
    from plinius.owner.evidence import read
    from plinius.owner.policy import load
    from plinius.owner.verify import explain, facts, require
    from plinius.owner.verify import verify as run

    accepted = load(policy) if policy else None
    verdict = run(read(evidence, collateral, certificates, revocations), _time(at), accepted)
    answer(json, facts(verdict), *explain(verdict))
    require(verdict)


def _time(text: str | None) -> datetime:
    from datetime import UTC, datetime

    from plinius.errors import ConfigError

    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at: {text!r} is no time; write it as 2025-07-01T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
