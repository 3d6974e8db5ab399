"""A connection to a TPM 2.0, for what runs in the enclave: attestation, the freshness anchor, platform sealing.

Everything here trusts the operating system that holds the TPM: other programs of the machine reach the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final

from plinius.attest.tpm_wire import AK_TEMPLATE, EK_PREFIX, EK_TEMPLATE, SRK_TEMPLATE
from plinius.errors import ConfigError, PliniusError

try:
    import tpm2_pytss
    from tpm2_pytss import ESAPI, PyTCTI, TCTILdr, TSS2_Exception
    from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_SE, TPMA_SESSION, TSS2_RC
    from tpm2_pytss.types import TPM2B_PUBLIC, TPMT_PUBLIC, TPMT_SYM_DEF
except ImportError as error:
    raise ConfigError(
        f"a TPM needs the package tpm2-pytss (pip install 'plinius[tpm]', with libtss2-dev installed): {error}"
    ) from None

# The package itself, for the modules beside this one: whichever is imported first says that it is missing.
tss: Any = tpm2_pytss

# The software stack writes its own account of every failure to stderr; each is an exception here.
os.environ.setdefault("TSS2_LOG", "all+NONE")

_LAYER_MASK: Final = 0xFF0000  # TCG TSS 2.0 Overview and Common Structures: which layer an error is of
_TCTI_LAYER: Final = 0x0A0000
_MAX_RESPONSE_BYTES: Final = 4096  # what the kernel's driver holds (TPM_BUFSIZE)
_HEADER_BYTES: Final = 10  # tag (2), size (4), response code (4)
# TCG TPM v2.0 Provisioning Guidance: where the EK of template L-1 is kept, if somebody made it so.
_PERSISTENT_EK: Final = 0x81010001
_PCRS_A_READ: Final = 8


class _Descriptor(PyTCTI):  # type: ignore[misc]  # a class of a package without types
    """Carries commands over an open descriptor: of /dev/tpmrm0, or of a stream socket of swtpm's."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(max_size=_MAX_RESPONSE_BYTES)
        self._descriptor = descriptor

    def do_transmit(self, command: bytes) -> None:
        """Writes the command at once: the kernel's driver takes no parts."""
        if os.write(self._descriptor, command) != len(command):
            raise OSError("the TPM did not take the whole command")

    def do_receive(self, timeout: int) -> bytes:  # noqa: ARG002 (commands end by themselves)
        """Reads a whole response; a socket may give it in parts."""
        response = bytearray()
        while len(response) < _HEADER_BYTES or len(response) < int.from_bytes(response[2:6], "big"):
            part = os.read(self._descriptor, _MAX_RESPONSE_BYTES)
            if not part:
                raise OSError("the TPM closed the connection")
            response += part
        return bytes(response)


@contextmanager
def failing(kind: type[PliniusError], what: str) -> Iterator[None]:
    """Turns a failure of the TPM into one error that says what could not be done.

    Args:
        kind: The error to raise.
        what: What it was to do, as in "the TPM does not ...".
    """
    try:
        yield
    except TSS2_Exception as error:
        # After a command that got no answer, the stack refuses more of them as out of sequence.
        if error.rc & _LAYER_MASK == _TCTI_LAYER or error.rc == TSS2_RC.ESYS_RC_BAD_SEQUENCE:
            raise kind(f"no TPM answers, to {what}: is it there, and may this user open it?") from None
        raise kind(f"the TPM does not {what}: it says {error}") from None


class Tpm:
    """An open connection. Everything that has to be opened is opened here; later calls only read and write.

    Args:
        at: A TCTI string of tpm2-tss, such as ``device:/dev/tpmrm0``; or an open descriptor, of /dev/tpmrm0 or of a
            socket that carries plain commands, which stays the caller's.

    Raises:
        ConfigError: There is no TPM there.
    """

    def __init__(self, at: str | int) -> None:
        with failing(ConfigError, "begin with"):
            self._tcti = _Descriptor(at) if isinstance(at, int) else TCTILdr.parse(at)
            self.esys: Any = ESAPI(self._tcti)

    def close(self) -> None:
        """Ends the connection."""
        with suppress(TSS2_Exception):
            self.esys.close()
        if isinstance(self._tcti, TCTILdr):
            self._tcti.close()

    def __enter__(self) -> Tpm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def create(self, hierarchy: ESYS_TR, template: bytes) -> tuple[ESYS_TR, bytes]:
        """Makes a primary key, the same one every time (Part 1, "Primary Object"): its handle and public area."""
        public = TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(template)[0])
        handle, made, *_ = self.esys.create_primary(None, public, hierarchy)
        return handle, made.publicArea.marshal()

    def create_ak(self) -> tuple[ESYS_TR, bytes]:
        """The attestation key.

        It is in the endorsement hierarchy: a quote of another one's key would obfuscate the firmware's version and the
        counts of resets (Part 3, "Attestation Commands").
        """
        return self.create(ESYS_TR.ENDORSEMENT, AK_TEMPLATE)

    def load_ek(self) -> tuple[ESYS_TR, bytes]:
        """The endorsement key of template L-1; where it is kept in the TPM, the seconds of making it are saved."""
        with suppress(TSS2_Exception):
            handle = self.esys.tr_from_tpmpublic(_PERSISTENT_EK)
            public = self.esys.read_public(handle)[0].publicArea.marshal()
            if public.startswith(EK_PREFIX):
                return handle, public
        return self.create(ESYS_TR.ENDORSEMENT, EK_TEMPLATE)

    @contextmanager
    def storage_root(self) -> Iterator[ESYS_TR]:
        """The storage root key for as long as the context lasts."""
        handle, _ = self.create(ESYS_TR.OWNER, SRK_TEMPLATE)
        try:
            yield handle
        finally:
            self.flush(handle)

    @contextmanager
    def session(self, kind: TPM2_SE, *, salted_by: ESYS_TR = ESYS_TR.NONE, attributes: int = 0) -> Iterator[ESYS_TR]:
        """An authorization session, whose parameters are encrypted where `attributes` say so.

        Args:
            kind: HMAC, policy or trial.
            salted_by: A loaded decryption key of this TPM, which keeps the session from whoever reads along.
            attributes: Of TPMA_SESSION.
        """
        cipher = TPMT_SYM_DEF.parse("aes128cfb")
        handle = self.esys.start_auth_session(salted_by, ESYS_TR.NONE, kind, cipher, TPM2_ALG.SHA256)
        try:
            self.esys.trsess_set_attributes(handle, TPMA_SESSION.CONTINUESESSION | attributes)
            yield handle
        finally:
            self.flush(handle)

    def flush(self, *handles: ESYS_TR) -> None:
        """Takes keys and sessions out of the TPM; what cannot be is not there, or is kept there for good."""
        for handle in handles:
            with suppress(TSS2_Exception):
                self.esys.flush_context(handle)

    def read_pcrs(self, pcrs: Sequence[int]) -> dict[int, bytes]:
        """The values of the SHA-256 bank; a TPM gives eight at a time."""
        values: dict[int, bytes] = {}
        for first in range(0, len(pcrs), _PCRS_A_READ):
            some = pcrs[first : first + _PCRS_A_READ]
            digests = self.esys.pcr_read(selection(some))[2]
            values |= {pcr: bytes(digest) for pcr, digest in zip(some, digests, strict=True)}
        return values


def selection(pcrs: Sequence[int]) -> str:
    """PCRs of the SHA-256 bank, as tpm2-pytss reads them."""
    return "sha256:" + ",".join(map(str, pcrs))
