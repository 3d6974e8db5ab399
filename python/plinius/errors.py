"""Every error that Plinius raises; each message says what happened, where, and what to do.

The compiled modules raise these classes too, so ``except plinius.PoolError`` catches an error wherever it was seen.
"""

from __future__ import annotations


class PliniusError(Exception):
    """The root of the hierarchy."""


class ConfigError(PliniusError):
    """An option, a file that the user named, or a ``.cfg`` is wrong.

    Args:
        message: What is wrong and what to do.
        path: The file that is wrong, if it is in a file.
        line: Its line, counted from 1.
        section: The section of a ``.cfg`` file, without brackets.
    """

    def __init__(
        self, message: str, *, path: str | None = None, line: int | None = None, section: str | None = None
    ) -> None:
        self.path, self.line, self.section = path, line, section
        place = "".join(
            part
            for part in (
                f"{path}: " if path else "",
                f"line {line}: " if line else "",
                f"[{section}]: " if section else "",
            )
        )
        super().__init__(place + message)


class PoolError(PliniusError):
    """The pool cannot be used as asked."""


class PoolFull(PoolError):
    """The pool cannot grow: its limit, its heap or its medium is full.

    Args:
        message: What was full and what to do.
        needed_bytes: What the operation needed.
        free_bytes: What there was.
    """

    def __init__(self, message: str, needed_bytes: int = 0, free_bytes: int = 0) -> None:
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes
        super().__init__(message)


class PoolBusy(PoolError):
    """Another process has the pool open."""


class PoolCorrupt(PoolError):
    """The pool's structure was damaged or changed by somebody else."""


class PoolVersion(PoolError):
    """The pool was written in a format that this version does not read."""


class DurabilityUnavailable(PoolError):
    """The medium does not give the durability that was required."""


class IntegrityError(PliniusError):
    """Sealed bytes did not open: the wrong key, changed bytes or truncation."""


class RollbackError(IntegrityError):
    """The pool holds an older state than the one that is known to exist."""


class AttestationError(PliniusError):
    """The enclave could not prove what it is, or no key was released to it."""


class EvidenceError(AttestationError):
    """The evidence is malformed or does not verify."""


class PolicyError(AttestationError):
    """The evidence verifies, but the owner's policy does not accept it.

    Args:
        message: What was refused and why.
        field: The policy's field that refused.
    """

    def __init__(self, message: str, field: str = "") -> None:
        self.field = field
        super().__init__(message)


class ProvisioningError(AttestationError):
    """The key did not arrive, or is not the one that the job needs."""


class EnclaveError(PliniusError):
    """The enclave process failed or died."""


def named(name: str, message: str) -> PliniusError:
    """The error that another process sent as the name of its class and its message.

    Args:
        name: A class of this module; any other name, since the sender is not trusted, gives an `EnclaveError`.
        message: What it says.
    """
    kind = globals().get(name)
    if isinstance(kind, type) and issubclass(kind, PliniusError):
        return kind(message)
    return EnclaveError(message)
