"""Attack: the host gives the enclave another manifest or cfg than the owner's.

Stopped by: the evidence is bound to the manifest's digest, the cfg is in the manifest, and the broker answers for its
own manifests alone.
"""

from __future__ import annotations

import os

import msgspec
import pytest
from brokers import Desk, Enclave, job_manifest, sign
from plinius.attest.manifest import JobManifest, body, digest, parse, signed
from plinius.attest.signing import manifest_content
from plinius.errors import EvidenceError
from plinius.owner.identity import Identity
from plinius.wire import Refusal


@pytest.mark.parametrize(
    "changes",
    [{"steps": 11}, {"cfg": b"[net]\n\n"}, {"data": "11" * 16}, {"reveal": []}, {"job_id": bytes(15) + b"x"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_manifest_that_the_broker_does_not_have(desk: Desk, changes: dict[str, object]) -> None:
    """Though its owner signed it, once."""
    other = sign(desk.identity, job_manifest(desk.identity, **changes))
    answer = Enclave(desk).request(manifest=digest(other))
    assert answer == Refusal(
        "PolicyError", "the owner refuses, field manifest: no job of this broker has this manifest"
    )


def test_evidence_for_another_manifest(desk: Desk) -> None:
    other = digest(sign(desk.identity, job_manifest(desk.identity, steps=11)))
    enclave = Enclave(desk)
    enclave.challenged()
    answer = enclave.present(enclave.evidence(enclave.bound(manifest=other)))
    assert isinstance(answer, Refusal)
    assert answer.error == "EvidenceError"


def test_every_changed_byte_of_a_manifest_is_refused() -> None:
    identity = Identity.generate()
    content = sign(identity, job_manifest(identity))
    assert parse(content).steps == 10
    for at in range(len(content)):
        with pytest.raises(EvidenceError):
            parse(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    for cut in (content[:-1], content + b"\0", b"", b"\xc0", os.urandom(100)):
        with pytest.raises(EvidenceError):
            parse(cut)


def test_a_manifest_that_somebody_else_signed_in_her_name() -> None:
    identity, other = Identity.generate(), Identity.generate()
    manifest = job_manifest(identity)
    with pytest.raises(EvidenceError, match="the manifest is not signed"):
        parse(signed(manifest, other.sign(manifest_content(body(manifest)))))


def test_a_signature_for_another_purpose() -> None:
    """What the owner signed as a challenge is no manifest."""
    identity = Identity.generate()
    manifest = job_manifest(identity)
    with pytest.raises(EvidenceError):
        parse(signed(manifest, identity.sign(body(manifest))))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"steps": 0},
        {"steps": 1 << 40},
        {"every": 0},
        {"keep": 1001},
        {"seed": -1},
        {"threads": 0},
        {"job": ""},
        {"job_id": b"short"},
        {"code": b""},
        {"data": "no digits" * 3},
        {"reveal": ["everything"]},
        {"cfg": bytes(1 << 20)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_signed_manifest_that_makes_no_sense(changes: dict[str, object]) -> None:
    identity = Identity.generate()
    with pytest.raises(EvidenceError):
        parse(sign(identity, job_manifest(identity, **changes)))


def test_an_unknown_field(desk: Desk) -> None:
    fields = {name: getattr(desk.job.manifest, name) for name in JobManifest.__struct_fields__} | {"more": 1}
    content = msgspec.msgpack.encode(fields)
    outer = msgspec.msgpack.encode([content, desk.identity.sign(manifest_content(content))])
    with pytest.raises(EvidenceError, match="unknown field"):
        parse(outer)
