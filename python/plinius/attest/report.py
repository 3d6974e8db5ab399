"""What evidence and signatures are bound to: hashes of length-prefixed fields, which can be read in one way only."""

from __future__ import annotations

import hashlib
from typing import Final

REPORT_DATA_BYTES: Final = 32
SESSION_BYTES: Final = 16
NONCE_BYTES: Final = 32


def joined(purpose: str, *fields: bytes) -> bytes:
    """Fields in a row, each after its length (eight bytes, little-endian), the purpose first."""
    return b"".join(len(field).to_bytes(8, "little") + field for field in (purpose.encode(), *fields))


def report_data(session: bytes, nonce: bytes, enclave_key: bytes, owner_key: bytes, manifest: bytes) -> bytes:
    """What evidence is bound to.

    Args:
        session: The owner's name for this exchange.
        nonce: The owner's, fresh.
        enclave_key: The enclave's HPKE key, to which the job key will be sealed.
        owner_key: With which the owner signs; empty where owner and enclave were started by one person.
        manifest: The digest of the job's manifest; empty where there is none.

    Returns:
        A SHA-256, 32 bytes.
    """
    return hashlib.sha256(joined("plinius evidence 2", session, nonce, enclave_key, owner_key, manifest)).digest()
