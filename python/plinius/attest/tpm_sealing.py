"""Seals a few bytes to one TPM and to what its machine booted, so that a restart of it needs no broker.

It keeps them from another machine, and from this one once other PCR values were booted; not from other programs of the
same operating system, which can have the TPM open the blob just as well. And nobody can take the permission back.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final

import msgspec

from plinius.attest.tpm import Tpm, failing, selection, tss
from plinius.attest.tpm_wire import MAX_PCRS
from plinius.errors import ConfigError, ProvisioningError

MAX_SECRET_BYTES: Final = 128  # TCG "TPM 2.0 Library" Part 2, MAX_SYM_DATA
_MAX_BLOB_BYTES: Final = 2048

_Pcr = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PCRS)]


class _Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A sealed data object, as its TPM gave it out: encrypted under the storage root key."""

    pcrs: Annotated[list[_Pcr], msgspec.Meta(min_length=1, max_length=MAX_PCRS)]
    public: Annotated[bytes, msgspec.Meta(max_length=512)]
    private: Annotated[bytes, msgspec.Meta(max_length=1024)]


def seal(tpm: Tpm, secret: bytes, pcrs: Collection[int]) -> bytes:
    """Seals a secret to this TPM and to the present values of PCRs.

    Args:
        tpm: An open connection.
        secret: At most 128 bytes.
        pcrs: Of the SHA-256 bank; at least one.

    Raises:
        ConfigError: The secret is too long, or no such PCRs.
        ProvisioningError: The TPM cannot seal it.
    """
    chosen = sorted(set(pcrs))
    if not 0 < len(secret) <= MAX_SECRET_BYTES:
        raise ConfigError(f"a TPM seals 1 to {MAX_SECRET_BYTES} bytes, not {len(secret)}")
    if not chosen or chosen[0] < 0 or chosen[-1] >= MAX_PCRS:
        raise ConfigError(f"name the PCRs to seal to, of 0 to {MAX_PCRS - 1}, not {chosen}")
    with failing(ProvisioningError, "seal"), tpm.storage_root() as parent:
        with tpm.session(tss.TPM2_SE.TRIAL) as trial:
            tpm.esys.policy_pcr(trial, None, selection(chosen))
            policy = bytes(tpm.esys.policy_get_digest(trial))
        given = tss.TPMS_SENSITIVE_CREATE(data=tss.TPM2B_SENSITIVE_DATA(secret))
        with tpm.session(tss.TPM2_SE.HMAC, salted_by=parent, attributes=tss.TPMA_SESSION.DECRYPT) as hidden:
            private, public, *_ = tpm.esys.create(
                parent, tss.TPM2B_SENSITIVE_CREATE(given), _template(policy), session2=hidden
            )
    return msgspec.msgpack.encode(_Sealed(chosen, public.marshal(), bytes(private)))


def unseal(tpm: Tpm, blob: bytes) -> bytes:
    """Opens what `seal` made.

    Raises:
        ProvisioningError: It was changed, another TPM sealed it, that TPM was cleared since, or the machine booted
            something else.
    """
    if len(blob) > _MAX_BLOB_BYTES:
        raise ProvisioningError(f"the sealed key has {len(blob)} bytes, more than {_MAX_BLOB_BYTES}")
    try:
        sealed = msgspec.msgpack.decode(blob, type=_Sealed)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProvisioningError(f"the sealed key cannot be read: {error}") from None
    with failing(ProvisioningError, "open the sealed key"), tpm.storage_root() as parent:
        with failing(ProvisioningError, "load the sealed key, which it has not made or which was changed"):
            item = _load(tpm, parent, sealed)
        try:
            return _open(tpm, parent, item, sealed)
        finally:
            tpm.flush(item)


def _template(policy: bytes) -> tss.TPM2B_PUBLIC:
    """Data that only a policy opens: without USERWITHAUTH, no password does."""
    attributes = tss.TPMA_OBJECT.FIXEDTPM | tss.TPMA_OBJECT.FIXEDPARENT | tss.TPMA_OBJECT.NODA
    area = tss.TPMT_PUBLIC(
        type=tss.TPM2_ALG.KEYEDHASH, nameAlg=tss.TPM2_ALG.SHA256, objectAttributes=attributes, authPolicy=policy
    )
    area.parameters.keyedHashDetail.scheme.scheme = tss.TPM2_ALG.NULL
    return tss.TPM2B_PUBLIC(publicArea=area)


def _load(tpm: Tpm, parent: tss.ESYS_TR, sealed: _Sealed) -> Any:
    try:
        public, private = tss.TPM2B_PUBLIC.unmarshal(sealed.public)[0], tss.TPM2B_PRIVATE(sealed.private)
    except ValueError:
        raise ProvisioningError("the sealed key is malformed") from None
    return tpm.esys.load(parent, private, public)


def _open(tpm: Tpm, parent: tss.ESYS_TR, item: tss.ESYS_TR, sealed: _Sealed) -> bytes:
    booted = "open the sealed key: this machine has booted something else than when it was sealed (PCR "
    with (
        tpm.session(tss.TPM2_SE.POLICY, salted_by=parent, attributes=tss.TPMA_SESSION.ENCRYPT) as policy,
        failing(ProvisioningError, f"{booted}{', '.join(map(str, sealed.pcrs))})"),
    ):
        tpm.esys.policy_pcr(policy, None, selection(sealed.pcrs))
        return bytes(tpm.esys.unseal(item, session1=policy))
