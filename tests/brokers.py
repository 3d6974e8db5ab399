"""A broker with a job of its own, and an enclave's side of the protocol, step by step: tests do one of them wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from plinius.attest.manifest import FORMAT_VERSION, JobManifest, body, digest, signed
from plinius.attest.release import Grant, RecipientKey
from plinius.attest.report import report_data
from plinius.attest.session import Advance, Confirm, Denied, Done, Session
from plinius.attest.signing import manifest_content
from plinius.attest.simulated import SimulatedAttester, measurement
from plinius.errors import named
from plinius.mirror import Mirror
from plinius.mirror.manifest import AnchoredHead
from plinius.owner.broker import Broker, Job
from plinius.owner.identity import Identity
from plinius.owner.policy import Policy
from plinius.owner.policy import parse as parse_policy
from plinius.owner.store import Store
from plinius.owner.verifiers import Endorsements
from plinius.pool import Pool
from plinius.seal import Key
from plinius.wire import PROTOCOL_VERSION, Challenge, Evidence, KeyRelease, KeyRequest, Refusal, Sealed

POLICY = """
[[accept]]
tee = "simulated-insecure"
measurements.code = ["CODE"]

[freshness]
anchor = "broker"
anchor_every = 1
evidence_max_age_s = 60
"""


def policy(text: str = POLICY) -> Policy:
    return parse_policy(text.replace("CODE", measurement().hex()).encode(), "policy.toml")


def job_manifest(identity: Identity, **changes: Any) -> JobManifest:
    """A manifest that is fine, but for the changes."""
    manifest = JobManifest(
        format=FORMAT_VERSION,
        job="job",
        job_id=bytes(16),
        owner=identity.public,
        code=measurement(),
        cfg=b"[net]\n",
        cfg_name="net.cfg",
        data="00" * 16,
        steps=10,
        every=1,
        keep=1,
        seed=1,
        threads=1,
        reveal=["loss"],
    )
    return JobManifest(**{name: getattr(manifest, name) for name in manifest.__struct_fields__} | changes)


def sign(identity: Identity, manifest: JobManifest) -> bytes:
    return signed(manifest, identity.sign(manifest_content(body(manifest))))


@dataclass
class Desk:
    """The owner's desk: one job, and a broker that can be killed and started again.

    Attributes:
        path: Of the broker's database.
        now_ns: What its clock says.
    """

    path: Path
    text: str = POLICY
    identity: Identity = field(default_factory=Identity.generate)
    key: Key = field(default_factory=Key.generate)
    now_ns: int = 1_800_000_000_000_000_000

    def __post_init__(self) -> None:
        manifest = job_manifest(self.identity)
        content = sign(self.identity, manifest)
        self.job = Job(manifest, content, digest(content), policy(self.text), self.key, Endorsements())
        self.start()

    def start(self) -> None:
        """As after a kill: everything but the database is new."""
        self.store = Store(str(self.path))
        self.broker = Broker(self.identity, {"job": self.job}, self.store, lambda: self.now_ns)

    def with_policy(self, text: str) -> None:
        """The owner changes her policy and starts the broker again."""
        self.job = replace(self.job, policy=policy(text))
        self.start()

    def events(self) -> list[str]:
        return [entry.event for entry in self.store.audit()]


class Enclave:
    """An enclave's side, up to the point that a test wants."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.attester = SimulatedAttester()
        self.grant: Grant | None = None

    def request(self, **changes: Any) -> Any:
        asked = {"protocol": PROTOCOL_VERSION, "tee": "simulated", "manifest": self.desk.job.digest}
        return self.desk.broker.answer(KeyRequest(**{**asked, **changes}))

    def challenged(self) -> Challenge:
        self.challenge = self.request()
        assert isinstance(self.challenge, Challenge)
        self.recipient = RecipientKey(self.challenge.kem)
        return self.challenge

    def bound(self, **changes: bytes) -> bytes:
        """The report data, some of it wrong."""
        fields = {
            "session": self.challenge.session,
            "nonce": self.challenge.nonce,
            "enclave_key": self.recipient.public,
            "owner_key": self.desk.identity.public,
            "manifest": self.desk.job.digest,
        }
        return report_data(**{**fields, **changes})

    def evidence(self, bound: bytes | None = None) -> Evidence:
        data = self.attester.attest(bound or self.bound(), b"")
        return Evidence(self.challenge.session, data, self.recipient.public)

    def released(self) -> KeyRelease | Refusal:
        self.challenged()
        return self.present(self.evidence())

    def present(self, evidence: Evidence) -> KeyRelease | Refusal:
        answer = self.desk.broker.answer(evidence)
        if isinstance(answer, KeyRelease):
            self.grant = self.recipient.open(answer.sealed_key, self.bound())
            self.session = Session(self.challenge.session, self.grant.terms.session_key, is_broker=False)
        assert isinstance(answer, KeyRelease | Refusal)
        return answer

    def confirmed(self) -> Enclave:
        """An enclave that has done all of it right."""
        assert isinstance(self.released(), KeyRelease)
        assert self.ask(Confirm()) == Done()
        return self

    def ask(self, message: Confirm | Advance) -> Done | Denied | Refusal:
        answer = self.desk.broker.answer(self.session.seal(message))
        if isinstance(answer, Sealed):
            opened = self.session.open(answer, Done | Denied)
            assert isinstance(opened, Done | Denied)
            return opened
        assert isinstance(answer, Refusal)
        return answer

    def advance(
        self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False
    ) -> Done | Denied | Refusal:
        return self.ask(Advance(expected, new, going_back))


def head(version: int, epoch: int = 1, digest: bytes | None = None) -> AnchoredHead:
    return AnchoredHead(version, digest or version.to_bytes(32, "big"), epoch)


class DirectAnchor:
    """An enclave's anchor with nothing between it and the broker (`plinius.mirror.anchoring.Anchor`)."""

    def __init__(self, desk: Desk) -> None:
        self.enclave = Enclave(desk).confirmed()
        assert self.enclave.grant
        self.every = self.enclave.grant.terms.anchor_every
        self._head = self.enclave.grant.terms.head

    def head(self) -> AnchoredHead | None:
        return self._head

    def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
        answer = self.enclave.advance(expected, new, going_back=going_back)
        if not isinstance(answer, Done):
            raise named(answer.error, answer.reason)
        self._head = new


@contextmanager
def life(desk: Desk, path: Path, until: int) -> Iterator[Mirror]:
    """One life of a job: a new enclave gets its key, restores the pool, and saves each step up to one."""
    anchor = DirectAnchor(desk)
    weights = np.zeros(8)
    with Pool(path) as pool:
        mirror = Mirror(pool, desk.key, name="m", keep=2, anchor=anchor, weights=weights)
        for step in range((mirror.restore() or 0) + 1, until + 1):
            weights[:] = step
            mirror.save(step)
        yield mirror


def lived(desk: Desk, path: Path, until: int) -> None:
    """The same, ended."""
    with life(desk, path, until):
        pass
