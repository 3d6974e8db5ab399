"""Attests with a TPM 2.0: a quote of the machine's PCRs by a key that the TPM's endorsement key vouches for.

It proves what the machine booted, not which program asks: the operating system that holds the TPM is trusted
(`Claims.trusts_os`). The verifier is `plinius.attest.tpm2_verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from plinius.attest.tpm import Tpm, failing, selection, tss
from plinius.attest.tpm2_messages import (
    MAX_CERTIFICATE_BYTES,
    TEE,
    Credential,
    Introduction,
    Quoted,
    decode,
    qualifying_data,
)
from plinius.errors import EvidenceError

DEFAULT_PCRS: Final = range(16)
# TCG EK Credential Profile, "NV Index": where the vendor's certificate of the RSA 2048 endorsement key is.
_CERTIFICATE_INDEX: Final = 0x01C00002
_READ_BYTES: Final = 512  # of an NV index at once; every TPM takes as much
_ATTEMPTS: Final = 3


class Tpm2Attester:
    """Makes evidence with a TPM.

    Args:
        tpm: An open connection.
        pcrs: Which PCRs of the SHA-256 bank to quote.
    """

    tee: Final = TEE

    def __init__(self, tpm: Tpm, pcrs: Iterable[int] = DEFAULT_PCRS) -> None:
        self._tpm, self._pcrs = tpm, sorted(set(pcrs))

    def introduce(self) -> bytes:
        """The TPM's endorsement key, its certificate where there is one, and the attestation key.

        Raises:
            EvidenceError: The TPM cannot make them.
        """
        with failing(EvidenceError, "make its attestation key"):
            ek, ek_public = self._tpm.load_ek()
            self._tpm.flush(ek)
            ak, ak_public = self._tpm.create_ak()
            self._tpm.flush(ak)
        return msgspec.msgpack.encode(Introduction(ek_public, self._certificate(), ak_public))

    def attest(self, report_data: bytes, credential: bytes) -> bytes:
        """Opens the credential, which proves that this TPM holds both keys, and quotes.

        Args:
            report_data: 32 bytes.
            credential: Made for this attester's introduction.

        Raises:
            EvidenceError: It was made for another TPM or key, or the TPM fails.
        """
        given = decode(credential, Credential, "the credential")
        with failing(EvidenceError, "open the credential (was it made for this TPM?)"):
            ak, _ = self._tpm.create_ak()
            try:
                secret = self._activate(ak, given)
                return self._quote(ak, report_data, qualifying_data(report_data, secret))
            finally:
                self._tpm.flush(ak)

    def _activate(self, ak: tss.ESYS_TR, given: Credential) -> bytes:
        """The credential's secret (Part 1, "Credential Protection"); the key's policy asks for the hierarchy's."""
        ek, _ = self._tpm.load_ek()
        try:
            with self._tpm.session(tss.TPM2_SE.POLICY) as policy:
                self._tpm.esys.policy_secret(tss.ESYS_TR.ENDORSEMENT, policy)
                blob, seed = tss.TPM2B_ID_OBJECT(given.blob), tss.TPM2B_ENCRYPTED_SECRET(given.seed)
                return bytes(self._tpm.esys.activate_credential(ak, ek, blob, seed, session2=policy))
        finally:
            self._tpm.flush(ek)

    def _quote(self, ak: tss.ESYS_TR, report_data: bytes, qualifying: bytes) -> bytes:
        """Quotes, with the values that it is of: again where one was extended meanwhile."""
        chosen = selection(self._pcrs)
        for _ in range(_ATTEMPTS):
            with failing(EvidenceError, "quote its PCRs"):
                values = self._tpm.read_pcrs(self._pcrs)
                attested, signature = self._tpm.esys.quote(ak, chosen, qualifying, tss.TPMT_SIG_SCHEME(scheme=0x0010))
            digest = hashlib.sha256(b"".join(values.values())).digest()
            if bytes(attested).endswith(digest):
                quoted = Quoted(report_data, bytes(attested), signature.marshal(), list(values.items()))
                return msgspec.msgpack.encode(quoted)
        raise EvidenceError(f"the machine's PCRs changed during each of {_ATTEMPTS} quotes; try again")

    def _certificate(self) -> bytes:
        """The endorsement key's certificate; empty where the TPM has none."""
        with suppress(tss.TSS2_Exception):
            index = self._tpm.esys.tr_from_tpmpublic(_CERTIFICATE_INDEX)
            public = self._tpm.esys.nv_read_public(index)[0].nvPublic
            size = min(public.dataSize, MAX_CERTIFICATE_BYTES)
            reader = index if public.attributes & tss.TPMA_NV.AUTHREAD else tss.ESYS_TR.OWNER
            read = (
                self._tpm.esys.nv_read(index, min(_READ_BYTES, size - at), at, reader)
                for at in range(0, size, _READ_BYTES)
            )
            return b"".join(map(bytes, read))
        return b""
