"""A released key kept on the untrusted machine, sealed to its TPM, so that a restart of it needs no broker.

The TPM seals a key of its own making, and that one the grant, bound to the digest of the job's manifest: no other job's
enclave opens it.
"""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from plinius.attest import tpm_sealing
from plinius.attest.release import Grant, opened_content, sealable_content
from plinius.attest.tpm import Tpm
from plinius.errors import ProvisioningError
from plinius.seal import take

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    by_tpm: Annotated[bytes, msgspec.Meta(max_length=2048)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]
    grant: Annotated[bytes, msgspec.Meta(max_length=4096)]


def keep(tpm: Tpm, grant: Grant, manifest: bytes) -> bytes:
    """Seals a grant to a TPM and to the PCRs that its terms name.

    Args:
        tpm: An open connection.
        grant: What was released; the session with the broker is left out.
        manifest: The digest of the job's manifest.

    Raises:
        ProvisioningError: The TPM cannot seal.
    """
    key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
    content = sealable_content(grant.key, msgspec.structs.replace(grant.terms, session_key=b""))
    try:
        sealed = AESGCM(key).encrypt(nonce, content, manifest)
    finally:
        content[:] = bytes(len(content))
    return msgspec.msgpack.encode(_Kept(tpm_sealing.seal(tpm, key, grant.terms.seal_to_pcrs), nonce, sealed))


def recall(tpm: Tpm, kept: bytes, manifest: bytes) -> Grant:
    """Opens what `keep` made.

    Raises:
        ProvisioningError: It was changed, or is of another job, another TPM, or a machine that booted something else.
    """
    try:
        parts = msgspec.msgpack.decode(kept, type=_Kept)
        key = tpm_sealing.unseal(tpm, parts.by_tpm)
        return opened_content(take(AESGCM(key).decrypt(parts.nonce, parts.grant, manifest)))
    except (InvalidTag, ValueError, msgspec.MsgspecError):
        raise ProvisioningError("the kept key does not open: it was changed, or is of another job") from None
