"""The broker: releases a job's key to enclaves that prove what they are, and knows how new the job's state is.

It answers one request with one message, and everything that it must know later is in its store before it answers: it
can be killed at any moment, and a request can be sent again.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from plinius.attest.manifest import JobManifest
from plinius.attest.release import KEMS, SESSION_KEY_BYTES, Terms, seal_key
from plinius.attest.report import NONCE_BYTES, SESSION_BYTES, report_data
from plinius.attest.session import Advance, Confirm, Denied, Done, Session
from plinius.attest.signing import challenge_content, release_content
from plinius.errors import (
    AttestationError,
    EvidenceError,
    PliniusError,
    PolicyError,
    ProvisioningError,
    RollbackError,
)
from plinius.mirror.manifest import AnchoredHead
from plinius.owner import verifiers
from plinius.owner.appraisal import appraise, require
from plinius.owner.identity import Identity
from plinius.owner.policy import Policy
from plinius.owner.store import CHALLENGED, CONFIRMED, ENDED, RELEASED, Asked, SessionRecord, Store
from plinius.seal import Key
from plinius.wire import (
    PROTOCOL_VERSION,
    Challenge,
    Evidence,
    FromBroker,
    KeyRelease,
    KeyRequest,
    Manifest,
    ManifestRequest,
    Refusal,
    Sealed,
    ToBroker,
)

SECRET_BYTES: Final = 32
_NS: Final = 1_000_000_000
_SHOWN: Final = 100
_MAX_REASON: Final = 1000
"""Characters of a refusal's reason in the audit log: evidence may bring the words of its own refusal."""


@dataclass(frozen=True)
class Job:
    """A job of the owner's.

    Attributes:
        manifest: What is to run.
        signed: The same as it was signed.
        digest: Of that.
        policy: Who gets the key.
        key: The key.
        endorsements: What the owner has of platforms' vendors, for evidence that brings none.
    """

    manifest: JobManifest
    signed: bytes
    digest: bytes
    policy: Policy
    key: Key
    endorsements: verifiers.Endorsements


class Broker:
    """Answers requests.

    Args:
        identity: With which the owner signs; every job's manifest names it.
        jobs: By name.
        store: What outlives a kill.
        clock_ns: Unix time.
    """

    def __init__(
        self, identity: Identity, jobs: Mapping[str, Job], store: Store, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._identity, self._jobs, self._store, self._clock_ns = identity, jobs, store, clock_ns
        self._by_digest = {job.digest: job for job in jobs.values()}
        self._by_id = {job.manifest.job_id: job for job in jobs.values()}

    def answer(self, request: ToBroker) -> FromBroker:
        """Answers a request; what is refused is noted, and answered with the reason."""
        try:
            match request:
                case ManifestRequest():
                    return self._manifest(request)
                case KeyRequest():
                    return self._challenge(request)
                case Evidence():
                    return self._release(request)
                case Sealed():
                    return self._sealed(request)
        except PliniusError as error:
            return Refusal(type(error).__name__, str(error))

    def _manifest(self, request: ManifestRequest) -> Manifest:
        job = self._jobs.get(request.job)
        if job is None:
            named = f"{request.job[:_SHOWN]!r}"  # the answer to a giant must not be one
            raise ProvisioningError(f"this broker has no job {named}; a new one is seen when the broker starts")
        return Manifest(job.signed)

    def _challenge(self, request: KeyRequest) -> Challenge:
        job = self._by_digest.get(request.manifest)
        if job is None:
            raise _refused("manifest", "no job of this broker has this manifest")
        if request.protocol != PROTOCOL_VERSION:
            raise AttestationError(f"the enclave speaks protocol {request.protocol}, this broker {PROTOCOL_VERSION}")
        secret = secrets.token_bytes(SECRET_BYTES)
        credential = verifiers.challenge(request.tee, request.introduction, secret)
        asked = Asked(request.tee, request.introduction, secret, secrets.token_bytes(NONCE_BYTES), KEMS[0])
        now_ns = self._clock_ns()
        record = SessionRecord(secrets.token_bytes(SESSION_BYTES), job.manifest.job_id, CHALLENGED, now_ns, asked)
        with self._store.transaction():
            self._store.forget_challenges(job.manifest.job_id, now_ns - job.policy.freshness.evidence_max_age_s * _NS)
            self._store.put(record)
        content = challenge_content(record.name, asked.nonce, asked.kem, credential, job.digest)
        return Challenge(record.name, asked.nonce, asked.kem, credential, self._identity.sign(content))

    def _release(self, request: Evidence) -> KeyRelease:
        record, job = self._challenged(request.session)  # before the costly part
        try:
            bound = self._appraise(record, job, request)
        except PliniusError as error:
            self._refuse(record, job, error)
            raise
        except BaseException as error:  # also a panic of a library in Rust, which is no Exception
            unforeseen = EvidenceError(f"the evidence makes its verifier fail ({type(error).__name__}): report this")
            self._refuse(record, job, unforeseen)
            raise unforeseen from None
        key = secrets.token_bytes(SESSION_KEY_BYTES)
        with self._store.transaction():
            self._challenged(request.session)  # still: the request may have come twice at the same time
            freshness, head = job.policy.freshness, self._store.head(job.manifest.job_id)
            terms = Terms(
                reveal=job.manifest.reveal,
                session_key=key,
                anchor=freshness.anchor,
                anchor_every=freshness.anchor_every,
                anchor_gap_s=freshness.anchor_gap_s,
                head=head,
                seal_to_pcrs=job.policy.sealing.pcrs,
            )
            sealed_key = seal_key(job.key, record.asked.kem, request.public_key, bound, terms)
            self._store.put(replace(record, state=RELEASED, key=key))
            self._note(job, "released", f"{record.asked.tee}, session {record.name.hex()}")
        return KeyRelease(sealed_key, self._identity.sign(release_content(bound, sealed_key)))

    def _refuse(self, record: SessionRecord, job: Job, error: PliniusError) -> None:
        with self._store.transaction():
            known = self._store.session(record.name)
            if known is not None and known.state == CHALLENGED:  # not so if good evidence came at the same time
                self._store.put(replace(known, state=ENDED))  # whatever was wrong: a challenge is for one try
            self._note(job, "refused", f"{record.asked.tee}: {type(error).__name__}: {str(error)[:_MAX_REASON]}")

    def _appraise(self, record: SessionRecord, job: Job, request: Evidence) -> bytes:
        """Holds evidence against its challenge, the manifest and the policy; returns what it is bound to."""
        asked, now_ns = record.asked, self._clock_ns()
        oldest_s = job.policy.freshness.evidence_max_age_s
        if now_ns - record.issued_ns > oldest_s * _NS:
            raise _refused("evidence_max_age_s", f"a challenge is answered within {oldest_s} s, or its nonce is stale")
        bound = report_data(record.name, asked.nonce, request.public_key, self._identity.public, job.digest)
        at = datetime.fromtimestamp(now_ns / _NS, UTC)
        claims = verifiers.verify(asked, request.evidence, at, job.policy.roots(), job.endorsements)
        if not hmac.compare_digest(claims.report_data, bound):
            raise EvidenceError("the evidence belongs to another session, key or manifest: it was replayed or relayed")
        require(appraise(job.policy, claims))
        code = claims.measurements.get("code")
        if code is not None and not hmac.compare_digest(code, job.manifest.code):
            raise _refused("code", f"the manifest names {job.manifest.code.hex()}, the enclave runs {code.hex()}")
        return bound

    def _sealed(self, request: Sealed) -> Sealed:
        with self._store.transaction():
            record, job = self._known(request.session)
            if record.state not in (RELEASED, CONFIRMED):
                raise RollbackError("this session has ended: another enclave of the job has taken over")
            if request.counter == record.received and record.reply:
                return msgspec.msgpack.decode(record.reply, type=Sealed)  # the answer to it was lost
            session = Session(record.name, record.key, is_broker=True, sent=record.sent, received=record.received)
            message = session.open(request, Confirm | Advance)
            is_first = isinstance(message, Confirm)
            answer = self._confirm(record, job) if is_first else self._advance(record, job, message)
            reply = session.seal(answer)
            kept = msgspec.msgpack.encode(reply)
            self._store.put(replace(record, state=CONFIRMED, sent=session.sent, received=session.received, reply=kept))
            return reply

    def _confirm(self, record: SessionRecord, job: Job) -> Done:
        self._note(job, "confirmed", f"session {record.name.hex()}")
        return Done()

    def _advance(self, record: SessionRecord, job: Job, asked: Advance) -> Done | Denied:
        if record.state != CONFIRMED:
            raise EvidenceError("the enclave has not confirmed that it has the key")
        try:
            head, new = self._store.head(job.manifest.job_id), asked.new
            anchor = job.policy.freshness.anchor
            if anchor == "none":
                raise _refused("anchor", "the broker keeps no freshness record for this job")
            # Of an anchor in a TPM the broker knows only which one it is: from then on there is no other.
            if anchor == "tpm" and head not in (None, new):
                raise RollbackError("this job has an anchor in a TPM already, and this is another one")
            if head != new:
                self._check_step(job, head, asked)
                self._store.put_head(job.manifest.job_id, new)
                event = "went back" if asked.going_back else "advanced"
                self._note(job, event, f"version {new.version}, epoch {new.epoch}, {new.digest.hex()}")
                if head is not None and new.epoch > head.epoch:
                    self._store.end_others(record)  # this one has shown the newest state, and goes on from it
        except PliniusError as error:
            self._note(job, "denied", f"{type(error).__name__}: {error}")
            return Denied(type(error).__name__, str(error))
        return Done()

    def _check_step(self, job: Job, head: AnchoredHead | None, asked: Advance) -> None:
        """Whether a head may be moved so.

        Raises:
            RollbackError: It is not where the enclave thinks.
            PolicyError: It would go back, and the owner does not want that.
        """
        if head != asked.expected:
            known = f"version {head.version} of epoch {head.epoch}" if head else "nothing"
            raise RollbackError(f"the anchor knows {known}: another copy of the job was here")
        if head is None:
            return
        same = (head.version, head.digest) == (asked.new.version, asked.new.digest)
        forward = (same or asked.new.version > head.version) and asked.new.epoch >= head.epoch
        if (asked.going_back or not forward) and not job.policy.freshness.going_back:
            raise _refused("going_back", "this job does not go back to an older state")
        if not forward and not asked.going_back:
            raise RollbackError("an anchor never goes back by itself")

    def _challenged(self, name: bytes) -> tuple[SessionRecord, Job]:
        record, job = self._known(name)
        if record.state != CHALLENGED:
            raise EvidenceError("this challenge was answered already: evidence is never accepted twice")
        return record, job

    def _known(self, name: bytes) -> tuple[SessionRecord, Job]:
        record = self._store.session(name)
        job = self._by_id.get(record.job_id) if record else None
        if record is None or job is None:
            raise EvidenceError("this broker knows no such session: it began too long ago, or elsewhere")
        return record, job

    def _note(self, job: Job, event: str, detail: str) -> None:
        self._store.note(job.manifest.job, event, detail)


def _refused(field: str, text: str) -> PolicyError:
    return PolicyError(f"the owner refuses, field {field}: {text}", field=field)
